"""From texts and the words of a concept to all that a sweep needs, every text used for one purpose only."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.steering.benefit import ConceptClassifier, WordList
from gossamer.steering.coefficient import measure_site
from gossamer.steering.concept import ROWS, ConceptData, ConceptSteering, steer_towards
from gossamer.steering.contrast_vectors import ContrastPairs, contrast_vectors, require_room
from gossamer.steering.effects import learn_effects
from gossamer.steering.predictions import Observer
from gossamer.steering.sweep import SweepPlan
from gossamer.steering.vectors import SteeringVector, contrast_states
from gossamer.tokens import Tokens

# Shares of the texts of a side: those that vectors are made of, those that say what is irrelevant; the rest is for
# benefit (with the concept) and cost (without it).
_MADE_OF, _HELD_OUT = 0.5, 0.2
# Texts of a side that vectors are made of at most, from which scales and contexts come too; those that the clean-up by
# gradient sees.
_MOST, _TUNING = 256, 16
# Rows on which the strength of each direction is chosen whose effects are measured.
_BUDGET_ROWS = 8


@dataclass(frozen=True, eq=False)
class ConceptSweep:
    """A sweep that is ready.

    Attributes:
        steering: the ways of steering.
        plan: what is measured.
    """

    steering: ConceptSteering
    plan: SweepPlan


def prepare_concept(
    model: LanguageModel,
    dictionary: Dictionary,
    words: Sequence[str],
    texts: Sequence[str],
    *,
    prompts: Sequence[str],
    positive: Sequence[str] | None = None,
    negative: Sequence[str] | None = None,
    context: int = 64,
    neutral: int = 64,
    rows: Collection[str] = ROWS,
    effects: int = 0,
    effects_folder: str | Path | None = None,
    pairs: ContrastPairs | None = None,
    act_add: tuple[str, str] | None = None,
    observer: Dictionary | None = None,
    further: Sequence[SteeringVector] = (),
    seed: int = 0,
    **measured: Any,
) -> ConceptSweep:
    """Split texts into those with the concept and those without it; make vectors of some, keep others for measuring.

    Args:
        dictionary: of the residual stream.
        words: of the concept; a text has it if one of them is among its first `context` tokens.
        texts: split into both sides, where these are not given; the classifier's too.
        positive, negative: texts with the concept and without it, instead.
        context: tokens of a text that are read.
        neutral: rows without the concept on which cost is measured.
        rows: of :data:`gossamer.steering.concept.ROWS`, those that are made beside the table's own.
        effects: directions along which it is measured what steering does to features, for SAE-TS and FGAA; 0: none.
        effects_folder: where that is kept; it knows nothing of the concept, and serves others too.
        pairs: of texts, for CAA and PCA; None: PCA pairs texts of both sides.
        act_add: two prompts, what is wanted and what is not, for ActAdd.
        observer: a dictionary, here or at a later site, that says which other features move; None: this one.
        further: vectors of other makers at the same site.
        **measured: other fields of :class:`SweepPlan`, as `sampling` or `judge`.

    Raises:
        UsageError: too few texts with the concept or without it, or a dictionary that cannot be steered by.
    """
    site = _steerable(dictionary)
    if act_add is not None and "act_add" in rows:
        # Before hours of measuring, not behind them.
        require_room(model, prompts, act_add)
    listed = WordList(tuple(words))
    split = _split(model, listed, texts, (positive, negative), context, neutral)

    def read(part: Sequence[str]) -> Tokens:
        return model.tokenize(list(part)).cut(context)

    seen, plain, tuning = read([*split.made_of, *split.against]), read(split.plain), read(split.made_of[:_TUNING])
    states = contrast_states(model, split.made_of, split.against, site)
    held_out = contrast_states(model, split.held_out, split.against_held_out, site)
    scale, learnt = measure_site(model, site, seen, dictionary), None
    if effects and {"sae_ts", "fgaa"} & set(rows):
        # Of all texts, so that no concept's words decide.
        every = read(split.read[:_MOST])
        own = measure_site(model, site, every, dictionary)
        budget_rows = every[:_BUDGET_ROWS]
        learnt = learn_effects(model, dictionary, own, budget_rows, prompts, effects, seed=seed, folder=effects_folder)
    made = contrast_vectors(model, states, prompts, pairs=pairs, act_add=act_add, rows=rows)
    vectors = (*further, *made.vectors.values())
    concept = ConceptData(listed, states, held_out, scale, seen, tuning, learnt, vectors, made.absent)
    plan = SweepPlan(
        prompts,
        listed,
        plain,
        target=read(split.target),
        classifier=ConceptClassifier.fit(split.read, listed),
        observer=_observer(model, observer, seen) or Observer.of(dictionary, scale),
        **measured,
    )
    return ConceptSweep(steer_towards(model, dictionary, concept, seed=seed, rows=rows), plan)


def _observer(model: LanguageModel, dictionary: Dictionary | None, text: Tokens) -> Observer | None:
    if dictionary is None or dictionary.site is None:
        return None
    return Observer.of(dictionary, measure_site(model, dictionary.site, text, dictionary))


def _steerable(dictionary: Dictionary) -> Site:
    """The site of a dictionary along whose features the stream can be pushed."""
    site = dictionary.site
    if site is None or not site.facts.residual:
        raise UsageError(
            f"steering towards a concept: a dictionary of the residual stream expected, found one at {site}; give one"
        )
    dictionary.require_reconstruction("steering a feature")
    return site


class _Texts(NamedTuple):
    """Texts by purpose, each cut to the tokens that are read: `read` are all, for the classifier."""

    read: list[str]
    made_of: list[str]
    held_out: list[str]
    target: list[str]
    against: list[str]
    against_held_out: list[str]
    plain: list[str]


def _split(
    model: LanguageModel,
    words: WordList,
    texts: Sequence[str],
    sides: tuple[Sequence[str] | None, Sequence[str] | None],
    context: int,
    neutral: int,
) -> _Texts:
    def cut(whole: Sequence[str]) -> list[str]:
        return model.decode(model.tokenize(list(whole)).cut(context))

    read = cut(texts)
    ours, theirs = words.split(read)
    made_of, held_out, target = _parts(ours if sides[0] is None else cut(sides[0]), "with")
    against, against_held_out, rest = _parts(theirs if sides[1] is None else cut(sides[1]), "without")
    plain = [text for text in (rest if sides[1] is None else theirs) if not words.count(text)][:neutral]
    if len(plain) < 2:
        raise UsageError(f"steering: at least 2 neutral texts expected, found {len(plain)}; give more text")
    return _Texts(read, made_of, held_out, target[:neutral], against, against_held_out, plain)


def _parts(texts: Sequence[str], which: str) -> tuple[list[str], list[str], list[str]]:
    """Texts that vectors are made of, held-out ones, and the rest."""
    first = int(len(texts) * _MADE_OF)
    second = first + int(len(texts) * _HELD_OUT)
    made_of, held_out = (list(part[:_MOST]) for part in (texts[:first], texts[first:second]))
    rest = list(texts[second:])
    if min(len(made_of), len(rest)) < 2 or len(held_out) < 2:
        raise UsageError(
            f"steering: at least 10 texts {which} the concept expected, found {len(texts)}; give other words or more "
            "text"
        )
    return made_of, held_out, rest
