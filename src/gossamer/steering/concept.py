"""All rows that a table of steering towards a concept needs, from texts with the concept and without it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from gossamer.activations.attention_sink import first_token_is_sink
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import listed, plural, short_repr
from gossamer.errors import UsageError
from gossamer.features.examples import Text
from gossamer.features.feature import Feature
from gossamer.model.language_model import LanguageModel
from gossamer.steering.benefit import WordList
from gossamer.steering.cell import Cell, cells_of
from gossamer.steering.coefficient import SiteScale
from gossamer.steering.contrast_vectors import CONTRAST_ROWS
from gossamer.steering.decomposition import (
    Decomposition,
    HeldOutFit,
    by_pursuit,
    by_separate_encoding,
    clean_up,
    held_out_fit,
)
from gossamer.steering.effects import FeatureEffects
from gossamer.steering.intervention import Intervention, Positions, clamp, feature_add
from gossamer.steering.pareto import UNSTEERED
from gossamer.steering.selection import (
    Contexts,
    SelectionScores,
    lens_tokens,
    random_latents,
    selection_scores,
    strongest_contexts,
)
from gossamer.steering.vector_notes import VectorNotes
from gossamer.steering.vectors import ContrastStates, SteeringVector, diff_mean, random_direction
from gossamer.tokens import Tokens

# The vector that is taken apart, under the name that others know it by: both are the same direction.
ORIGINAL = "diff_mean"
PROMPT = "prompt"
# Rows that may be chosen among; all others stand in every table.
ROWS = ("pursuit", "gradient_clean_up", "sae_ts", "fgaa", *CONTRAST_ROWS)
# Contexts that are looked at, and the share of them with a word of the concept that makes a feature an obvious one.
_CONTEXTS, _OBVIOUS = 20, 0.5
# Standard errors that a feature's mean difference on held-out texts is to be from 0, with the sign that it had.
_CERTAIN = 2.0


@dataclass(frozen=True, eq=False)
class ConceptSteering:
    """Ways of steering towards one concept.

    Attributes:
        words: of the concept.
        decomposition: of the original vector, by separate encoding.
        obvious: its features that any reader would take for the concept's.
        irrelevant: those whose difference does not come back on held-out texts.
        scores: of the features that push towards the concept, and behind them of the random features.
        interventions: by method, with a coefficient of one mean residual norm.
        fits: of each method's one direction on held-out texts: whether it still tells them apart.
        absent: methods that there are none of here, with the reason.
        effects_explained: of each method whose vector rests on a fit of effects, what that fit explains
            (:class:`FeatureEffects`).
    """

    words: WordList
    decomposition: Decomposition
    obvious: tuple[int, ...]
    irrelevant: tuple[int, ...]
    scores: tuple[SelectionScores, ...]
    interventions: Mapping[str, Intervention]
    fits: Mapping[str, HeldOutFit]
    absent: Mapping[str, str]
    effects_explained: Mapping[str, float] = field(default_factory=dict)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.decomposition)
        yield f"{len(self.obvious)} obvious, {len(self.irrelevant)} irrelevant"
        yield plural(len(self.interventions), "method")

    @property
    def notes(self) -> VectorNotes:
        """What a record of a sweep keeps of its vectors."""
        return VectorNotes(self.effects_explained, self.fits, self.absent)

    def cells(self, coefficients: Sequence[float], prefix: str | None = None) -> list[Cell]:
        """The unsteered model, the prompt baseline, and every method at every coefficient, in multiples of the site's
        mean norm.

        Args:
            prefix: words that ask for the concept, before each text; None: "This is about" and the first word.

        Raises:
            UsageError: no coefficients, one that is not positive, or an empty prefix.
        """
        if not coefficients or not min(coefficients) > 0:
            raise UsageError(f"coefficients: positive ones expected, found {list(coefficients)}")
        asked = f"This is about {self.words.words[0]}. " if prefix is None else prefix
        if not asked.strip():
            raise UsageError("prompt baseline: words that ask for the concept expected, found none; give a prefix")
        found = [Cell(UNSTEERED), Cell(PROMPT, prefix=asked)]
        for method, one in self.interventions.items():
            found += cells_of(method, one, [one.coefficient.times(c) for c in coefficients])
        return found


@dataclass(frozen=True, eq=False)
class ConceptData:
    """What is known of a concept at one site of a model.

    Attributes:
        words: that show it, for what is obvious.
        states: of the texts that vectors are made of.
        held_out: of other texts, which say what is irrelevant.
        scale: of the site.
        text: for contexts of features.
        tuning: rows with the concept, for :func:`gossamer.steering.decomposition.clean_up`; None: without that row.
        effects: of steering at the site, for SAE-TS and FGAA; None: without these rows.
        further: other vectors at this site, under the names of their methods.
        absent: further methods that there are none of, with the reason.
    """

    words: WordList
    states: ContrastStates
    held_out: ContrastStates
    scale: SiteScale
    text: Text
    tuning: Tokens | None = None
    effects: FeatureEffects | None = None
    further: Sequence[SteeringVector] = ()
    absent: Mapping[str, str] = field(default_factory=dict)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{listed(self.words.words)} at {self.states.site}"


def steer_towards(
    model: LanguageModel,
    dictionary: Dictionary,
    concept: ConceptData,
    *,
    features: int = 64,
    scored: int = 32,
    controls: int = 2,
    seed: int = 0,
    rows: Collection[str] = ROWS,
) -> ConceptSteering:
    """Make the rows of the table: the original vector, its reconstruction, its obvious features alone, itself without
    the irrelevant ones, the features that a gradient leaves, pursuit, vectors aimed at features (SAE-TS at the first
    one, FGAA), the first feature added and clamped, the feature with the largest output score, random directions and
    random features.

    Args:
        features: most features of the decomposition.
        scored: features whose output score is measured.
        controls: random directions, and random features.
        rows: of `ROWS`, those that are made; the others of the table always are.

    Raises:
        UsageError: an unknown row, or no feature that is more active with the concept.
    """
    if unknown := set(rows) - set(ROWS):
        raise UsageError(f"steering: rows of {', '.join(ROWS)} expected, found {min(unknown)!r}")
    states, scale = concept.states, concept.scale
    parts = by_separate_encoding(dictionary, states, features)
    towards = parts.latents[parts.coefficients > 0].tolist()
    if not towards:
        raise UsageError(
            f"steering: a feature at {states.site} that is more active with the concept expected, found none"
        )
    drawn = random_latents(scale, controls, seed, towards)
    contexts = strongest_contexts(model, dictionary, [*towards, *drawn], concept.text)
    obvious = obvious_features(model, dictionary, towards, concept.words, contexts)
    irrelevant = irrelevant_features(parts, concept.held_out)
    single = obvious[0] if obvious else towards[0]
    latents = [*towards[:scored], *drawn]
    scores = selection_scores(model, dictionary, latents, scale, concept.text, contexts=contexts)
    vectors, absent = _vectors(diff_mean(states), parts, obvious, irrelevant)
    if "pursuit" in rows:
        vectors["pursuit"] = by_pursuit(dictionary, parts.original, len(parts.latents)).reconstruction()
    if "gradient_clean_up" in rows and concept.tuning is not None:
        vectors["gradient_clean_up"] = clean_up(model, parts, concept.tuning).reconstruction()
    aimed, missing = _aimed(concept, dictionary, single, rows)
    vectors |= aimed | {vector.method: vector for vector in concept.further}
    vectors |= {f"random_direction_{one}": random_direction(vectors[ORIGINAL], seed + one) for one in range(controls)}
    best = max(scores[: len(towards[:scored])], key=lambda one: one.output_score)
    pushed = {"single_feature": single, "output_score_feature": best.feature.latent}
    pushed |= {f"random_feature_{number}": latent for number, latent in enumerate(drawn)}
    where = behind_first(model)
    # ActAdd's vectors have positions of their own.
    pushes = {
        name: one if one.kind == "act_add" else one.where(where)
        for name, one in _of_one_norm(dictionary, scale, vectors, pushed, single).items()
    }
    fits = {
        name: held_out_fit(SteeringVector(name, states.site, one.vector), concept.held_out)
        for name, one in pushes.items()
        if one.vector.ndim == 1
    }
    return ConceptSteering(
        concept.words,
        parts,
        tuple(obvious),
        tuple(irrelevant),
        tuple(scores),
        pushes,
        fits,
        absent | missing | dict(concept.absent),
        {} if concept.effects is None else dict.fromkeys(aimed, concept.effects.explained),
    )


def _aimed(
    concept: ConceptData, dictionary: Dictionary, latent: int, rows: Collection[str]
) -> tuple[dict[str, SteeringVector], dict[str, str]]:
    """SAE-TS's vector for a feature and FGAA's for the concept, or why there are none."""
    wanted = [name for name in ("sae_ts", "fgaa") if name in rows]
    if concept.effects is None:
        width = dictionary.W_dec.shape[1]
        reason = f"what steering does to features was not measured; ask for --effects {width}, better several times it"
        return {}, dict.fromkeys(wanted, reason)
    effects, found, absent = concept.effects, dict[str, SteeringVector](), dict[str, str]()
    makers: dict[str, Callable[[], SteeringVector]] = {
        "sae_ts": lambda: effects.towards(latent),
        "fgaa": lambda: effects.towards_contrast(dictionary, concept.states, concept.scale.density),
    }
    for name in wanted:
        try:
            found[name] = makers[name]()
        except UsageError as error:
            absent[name] = str(error)
    return found, absent


def _of_one_norm(
    dictionary: Dictionary,
    scale: SiteScale,
    vectors: Mapping[str, SteeringVector],
    latents: Mapping[str, int],
    single: int,
) -> dict[str, Intervention]:
    """Vectors and features added, and one feature clamped, each by the site's mean norm: a coefficient means the same
    to all."""
    rows = dictionary.W_dec.detach()
    pushes = {name: vector.add(scale.of_norm(1.0, vector.vector)) for name, vector in vectors.items()}
    pushes |= {name: feature_add(dictionary, one, scale.of_norm(1.0, rows[one])) for name, one in latents.items()}
    return pushes | {"single_feature_clamp": clamp(dictionary, single, scale.of_norm(1.0, rows[single]))}


def _vectors(
    original: SteeringVector, parts: Decomposition, obvious: Sequence[int], irrelevant: Sequence[int]
) -> tuple[dict[str, SteeringVector], dict[str, str]]:
    """The vector, what its decomposition makes of it, and what there is none of, with the reason."""
    found, absent = {ORIGINAL: original, "reconstruction": parts.reconstruction()}, {}
    if obvious:
        found["obvious_features"] = parts.reconstruction(obvious)
    else:
        absent["obvious_features"] = "no feature writes or reads the concept's words"
    if irrelevant:
        found["cleaned"] = parts.without(irrelevant)
    else:
        absent["cleaned"] = "every feature's difference comes back on held-out texts"
    return found, absent


def behind_first(model: LanguageModel) -> Positions:
    """All positions but the first, where that holds BOS or an attention sink: what is written there is read everywhere,
    and dictionaries have not learned it.
    """
    return Positions(int(model.has_bos_by_default or first_token_is_sink(model)))


def obvious_features(
    model: LanguageModel, dictionary: Dictionary, latents: Sequence[int], words: WordList, contexts: Contexts
) -> list[int]:
    """Of these latents those whose logit lens has one of the words among its 20 tokens, or half of whose 20 strongest
    contexts have one: what a reader would pick by hand."""
    lens = lens_tokens(model, dictionary, latents)
    site = dictionary.site
    assert site is not None
    features = [Feature(site, latent) for latent in latents]
    found = []
    for feature, ids in zip(features, lens.tolist(), strict=True):
        written = any(words.count(model.word(token)) for token in ids)
        read = [words.count("".join(one.tokens)) > 0 for one in contexts[feature][:_CONTEXTS]]
        if written or (read and sum(read) >= _OBVIOUS * len(read)):
            found.append(feature.latent)
    return found


@torch.no_grad()
def irrelevant_features(parts: Decomposition, held_out: ContrastStates) -> list[int]:
    """Features of a decomposition whose mean difference over held-out texts is less than two standard errors from 0, or
    has the other sign: what the vector has of its own texts only."""
    sides = []
    for side in ("positive", "negative"):
        texts = getattr(held_out, f"{side}_texts")
        latents = parts.dictionary.encode_dense(getattr(held_out, side))[:, parts.latents].double()
        sums = latents.new_zeros(int(texts.max()) + 1, len(parts.latents)).index_add_(0, texts, latents)
        sides.append(sums / torch.bincount(texts)[:, None])
    if min(map(len, sides)) < 2:
        raise UsageError("irrelevant features: at least two held-out texts on each side expected; give more text")
    change = sides[0].mean(dim=0) - sides[1].mean(dim=0)
    error = sum(side.var(dim=0) / len(side) for side in sides) ** 0.5
    stays = (change * parts.coefficients.sign().double() > _CERTAIN * error) & (change != 0)
    return parts.latents[~stays].tolist()
