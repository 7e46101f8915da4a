"""One feature: whether it can steer, what the model writes along it, what that costs, and the same for controls."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.finite import error_context
from gossamer.model.language_model import LanguageModel
from gossamer.steering import intervention
from gossamer.steering.cell import Cell
from gossamer.steering.coefficient import Coefficient, SiteScale, measure_site
from gossamer.steering.completions import SamplingPlan, complete
from gossamer.steering.concept import behind_first
from gossamer.steering.intervention import OF_LATENT, Intervention, add
from gossamer.steering.pareto import UNSTEERED
from gossamer.steering.predictions import prediction_changes
from gossamer.steering.selection import SelectionScores, random_latents, selection_scores
from gossamer.steering.steered import ReadBack, read_back
from gossamer.steering.vectors import feature_vector, random_direction
from gossamer.tokens import Tokens

# Rows of the text on which cost and the activation afterwards are measured.
_ROWS = 32
CONTROLS = ("random_feature", "random_direction")


@dataclass(frozen=True)
class SteeredText:
    """What is written in one way, and what it costs.

    Attributes:
        method: "unsteered", the kind of intervention, "random_feature" (the same of another feature), or
            "random_direction" (adds as much, in the mean over the text's tokens, along no feature).
        coefficient: how strongly.
        back: the feature's activation before and after; None without one.
        cross_entropy, kl: on the text, nats a token.
        relative_norm: mean |delta| over mean |x| there.
        completions: of each prompt, the first sample.
        log_probability: of what is written, under the unsteered model, a token.
    """

    method: str
    coefficient: Coefficient | None
    back: ReadBack | None
    cross_entropy: float
    kl: float
    relative_norm: float
    completions: tuple[str, ...]
    log_probability: float

    __repr__ = short_repr


@dataclass(frozen=True, eq=False)
class FeatureSteering:
    """A feature and its controls, pushed.

    Attributes:
        scores: of the feature and of the random one.
        scale: of the site on the text.
        rows: the unsteered text, then the feature, a random feature and a random direction at each coefficient.
    """

    scores: tuple[SelectionScores, ...]
    scale: SiteScale
    rows: tuple[SteeredText, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self.scores[0].feature)
        yield plural(len(self.rows), "row")


def steer_along(
    model: LanguageModel,
    dictionary: Dictionary,
    latent: int,
    strengths: Sequence[float],
    prompts: Sequence[str],
    text: Tokens,
    *,
    kind: str = "clamp",
    unit: str = "residual_norm",
    plan: SamplingPlan | None = None,
    seed: int = 0,
) -> FeatureSteering:
    """Push the model along one feature at several strengths, beside controls of the same strength.

    Args:
        strengths: coefficients, in `unit` (:class:`Coefficient`).
        text: for scales and contexts; its first 32 rows for cost, and for the activation afterwards.
        kind: a kind of :data:`gossamer.steering.KINDS` that concerns a feature.

    Raises:
        UsageError: no such latent or kind, a latent that is never active on the text, or a dictionary that cannot be
            steered by.
        NotFiniteError: a strength that makes values that are not finite.
    """
    if kind not in OF_LATENT:
        raise UsageError(f"steering a feature: one of {', '.join(OF_LATENT)} expected, found {kind!r}")
    vector = feature_vector(dictionary, latent)
    site, rows = vector.site, dictionary.W_dec.detach()
    scale = measure_site(model, site, text, dictionary)
    scale.of_maximum(1.0, latent)
    units: dict[str, Callable[[float, int], Coefficient]] = {
        "raw": lambda value, _: Coefficient(value),
        "max_activation": scale.of_maximum,
        "residual_norm": lambda value, one: scale.of_norm(value, rows[one]),
    }
    other = random_latents(scale, 1, seed, [latent])[0]
    where, make = behind_first(model), getattr(intervention, kind)
    pushes = {
        name: [make(dictionary, one, units[unit](value, one)).where(where) for value in strengths]
        for name, one in ((kind, latent), (CONTROLS[0], other))
    }
    read = text[: min(len(text), _ROWS)]
    # Adds along a random direction what the feature adds: the mean length is that of the feature's change.
    with error_context(f"steering along {site}/{latent} (take smaller coefficients)"):
        drawn = random_direction(vector, seed).vector
        whole = add(site, drawn, scale.of_norm(1.0, drawn)).where(where)
        cells = [Cell(kind, (one,)) for one in (*pushes[kind], whole)]
        *lengths, unit_length = prediction_changes(model, cells, read).relative_norm.tolist()
        pushes[CONTROLS[1]] = [whole.at(whole.coefficient.times(length / unit_length)) for length in lengths]
        found = tuple(_written(model, pushes, prompts, read, plan or SamplingPlan()))
    return FeatureSteering(tuple(selection_scores(model, dictionary, [latent, other], scale, text)), scale, found)


def _written(
    model: LanguageModel,
    pushes: dict[str, list[Intervention]],
    prompts: Sequence[str],
    text: Tokens,
    plan: SamplingPlan,
) -> Iterator[SteeredText]:
    """The unsteered text, then every push, strength after strength."""
    cells = [Cell(UNSTEERED)]
    cells += [
        Cell(name, (one,)) for row in zip(*pushes.values(), strict=True) for name, one in zip(pushes, row, strict=True)
    ]
    costs = prediction_changes(model, cells, text)
    rises, kl = costs.mean("cross_entropy"), costs.mean("kl")
    for place, (cell, written) in enumerate(zip(cells, complete(model, cells, prompts, plan), strict=True)):
        back = read_back(model, cell.interventions, text)
        yield SteeredText(
            cell.method,
            cell.coefficient,
            back[0] if back else None,
            float(rises[place]),
            float(kl[place]),
            float(costs.relative_norm[place]),
            written.texts[:: plan.samples],
            float(written.log_probability.mean()),
        )
