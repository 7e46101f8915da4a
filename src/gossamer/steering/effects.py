"""What steering along a direction does to the features of the text that follows, and vectors aimed at one of them.

SAE-TS (Chalnev et al. 2024, arXiv 2411.02193): many directions are steered along, each as strongly as a budget of
cross-entropy allows; the change of mean activations in what the model then writes is fitted by e = s M + b. The vector
for feature j is norm(norm(M[:, j]) - norm(M b)): it raises j and not what every steering raises. FGAA (Soo et al. 2025,
arXiv 2501.09929) aims at several features at once, those that tell positive from negative texts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from gossamer.activations.stream import ActivationBatch, ActivationStream
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.fingerprint import arrays_sha256, weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.seeding import generator
from gossamer.steering.cell import Cell
from gossamer.steering.coefficient import Coefficient, SiteScale
from gossamer.steering.completions import SamplingPlan, write
from gossamer.steering.effect_parts import measured_in_parts
from gossamer.steering.intervention import Intervention, add
from gossamer.steering.predictions import prediction_changes
from gossamer.steering.selection import random_latents
from gossamer.steering.vectors import ContrastStates, SteeringVector
from gossamer.tokens import Tokens

# The largest coefficient that the budget is searched up to and the first one tried, as multiples of those given; the
# share of the budget that is near enough, how near the ends of the range come, how often a guess is made from the
# square law, and how often is tried at most.
_LARGEST, _FIRST, _NEAR, _CLOSE, _GUESSES, _TRIES = 4.0, 0.4, 0.9, 0.02, 4, 12
# Penalties that a fit chooses among, as multiples of the mean squared singular value of the directions.
_PENALTIES = tuple(10.0**power for power in range(-6, 4))
# Directions that a fit needs: two of them test it. Share of the effects' variance from which on a fit predicts them.
_FEWEST, _PREDICTS = 20, 0.01


@dataclass(frozen=True, eq=False)
class FeatureEffects:
    """A linear map from a direction of length 1 to the change of every feature's mean activation.

    Attributes:
        site: where it is steered.
        map: M; bias: b, what steering does whatever its direction.
        explained: share of the variance of the effects that the fit explains, on directions it was not fitted on.
    """

    site: Site
    map: Float[Tensor, "d n"]
    bias: Float[Tensor, "n"]
    explained: float = float("nan")

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.site}, {plural(self.map.shape[1], 'feature')}"
        yield f"explains {self.explained:.1%}"

    def towards(self, latent: int) -> SteeringVector:
        """SAE-TS's vector for one feature.

        Raises:
            UsageError: there is no such feature, or no direction moves it.
        """
        if not 0 <= latent < self.map.shape[1]:
            raise UsageError(f"{self.site}/{latent}: a latent from 0 to {self.map.shape[1] - 1} expected")
        weights = torch.zeros(self.map.shape[1]).index_fill_(0, torch.tensor(latent), 1.0)
        return SteeringVector("sae_ts", self.site, self._aimed(weights))

    def towards_contrast(
        self, dictionary: Dictionary, states: ContrastStates, density: Float[Tensor, "n"], *, k: int = 50
    ) -> SteeringVector:
        """FGAA's vector: the k features whose mean activation is most above that on negative texts, by share; features
        that are active on more than 1 % of a text's tokens are left out.

        Raises:
            UsageError: no feature is left.
        """
        change = dictionary.encode_dense(states.positive).mean(dim=0) - dictionary.encode_dense(states.negative).mean(
            dim=0
        )
        change = torch.where(density > 0.01, 0.0, change.cpu()).clamp(min=0)
        kept = change.topk(min(k, int((change > 0).sum())))
        if not len(kept.values):
            raise UsageError(
                f"FGAA: a feature at {self.site} that tells the texts apart and is rare expected, found none"
            )
        weights = torch.zeros_like(change).index_copy_(0, kept.indices, kept.values)
        return SteeringVector("fgaa", self.site, self._aimed(weights / weights.sum()))

    def _aimed(self, weights: Float[Tensor, "n"]) -> Float[Tensor, "d"]:
        towards = self.map @ weights.to(self.map)
        if not float(towards.norm()) > 0:
            raise UsageError(f"effects at {self.site}: no direction that was measured moves the features asked for")
        return normalize(normalize(towards, dim=0) - normalize(self.map @ self.bias, dim=0), dim=0)


def predicts(explained: float) -> bool:
    """Whether a fit of effects says more of directions that it has not seen than their mean does."""
    return explained > _PREDICTS


def said_of_fit(method: str, explained: float) -> str:
    """What a method's vector rests on, as a sentence; a warning where the fit predicts nothing."""
    said = (
        f"{method} rests on a fit of effects that explains {explained:.1%} of them on directions that it has not seen"
    )
    if predicts(explained):
        return said
    return f"WARNING: {said}, no more than their mean does: its vector is not to be trusted; measure more directions"


def fit_effects(
    site: Site, directions: Float[Tensor, "directions d"], effects: Float[Tensor, "directions n"]
) -> FeatureEffects:
    """The least-squares fit of e = s M + b with a penalty on M, in closed form where SAE-TS runs Adam.

    Of effects that are noisy and of directions that are few, least squares alone fits the noise. The penalty, one for
    all features, is what predicts each direction best from all others (leave-one-out, in closed form). Every tenth
    direction is kept apart from all this and says how much is explained.

    Raises:
        UsageError: fewer than 20 directions.
    """
    count = len(directions)
    _require_directions(count)
    test = torch.arange(count) % 10 == 9
    x, y = directions[~test].double(), effects[~test].double()
    centre, mean = x.mean(dim=0), y.mean(dim=0)
    left, sizes, right = torch.linalg.svd(x - centre, full_matrices=False)
    squares, along = sizes.square(), left.T @ (y - mean)
    best, penalty = float("inf"), 0.0
    for tried in (share * float(squares.mean()) for share in _PENALTIES):
        shrunk = left * (squares / (squares + tried))
        alone = 1 - (shrunk * left).sum(dim=1) - 1 / len(x)
        error = float((((y - mean) - shrunk @ along) / alone[:, None]).square().sum())
        if error < best:
            best, penalty = error, tried
    found = right.T @ ((sizes / (squares + penalty))[:, None] * along)
    bias = mean - centre @ found
    unseen = effects[test].double()
    missed = (unseen - directions[test].double() @ found - bias).square().sum()
    explained = float(1 - missed / (unseen - mean).square().sum())
    return FeatureEffects(site, found.float(), bias.float(), explained)


def learn_effects(
    model: LanguageModel,
    dictionary: Dictionary,
    scale: SiteScale,
    text: Tokens,
    prompts: Sequence[str],
    count: int,
    *,
    budget: float = 0.3,
    plan: SamplingPlan | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
) -> FeatureEffects:
    """Steer along `count` directions, each as strongly as a budget allows, and fit what that does to every feature.

    Half of the directions are decoder rows of features that are active on a text, half are random.

    Args:
        scale: of the dictionary's site.
        text: neutral text on which the budget counts.
        prompts: beginnings of what is written.
        count: of directions; the fit takes 20, and gets better with several times the width of the stream.
        budget: rise of cross-entropy, in nats a token.
        plan: of the writing; None: 1 sample of 16 tokens.
        folder: where effects are kept as they are measured (:func:`measured_in_parts`); None: nowhere.

    Raises:
        UsageError: fewer directions than a fit needs, a dictionary without a site, or a folder with effects of others.
        GossamerError: a file in the folder is damaged.
    """
    _require_directions(count)
    if dictionary.site is None:
        raise UsageError("effects: a dictionary that says which site it reads expected; load it with site=")
    alive = int((scale.density > 0).sum())
    latents = random_latents(scale, min(alive, count // 2), seed)
    width = dictionary.W_dec.shape[1]
    drawn = torch.randn(count - len(latents), width, generator=generator(seed, "effect directions"))
    directions = normalize(torch.cat([dictionary.W_dec[latents].detach().float().cpu(), drawn]), dim=1)
    # Fits are tested on every tenth direction: both sorts are to be among those.
    directions = directions[torch.randperm(count, generator=generator(seed, "effect order"))].to(dictionary.W_dec)
    site, sampling = dictionary.site, plan or SamplingPlan(samples=1, max_new_tokens=16, seed=seed)

    def measure(part: Float[Tensor, "some d"]) -> Float[Tensor, "some n"]:
        pushes = [add(site, one, scale.of_norm(1.0, one)) for one in part]
        coefficients = coefficients_at_budget(model, pushes, text, budget)
        return measure_effects(model, dictionary, part, coefficients, prompts, sampling)

    settings = {
        "model": model.title,
        "weights": weights_sha256(model.hf),
        "dictionary": weights_sha256(dictionary),
        "site": str(site),
        "text": arrays_sha256([text.ids.numpy(), text.mask.numpy()]),
        "prompts": list(prompts),
        "sampling": asdict(sampling),
        "budget": [_NEAR * budget, budget],
        "norm": scale.norm,
    }
    effects = measured_in_parts(directions, measure, folder, settings)
    return fit_effects(dictionary.site, directions.float().cpu(), effects)


def _require_directions(count: int) -> None:
    if count < _FEWEST:
        raise UsageError(f"effects: at least {_FEWEST} directions expected, found {count}")


@torch.no_grad()
def measure_effects(
    model: LanguageModel,
    dictionary: Dictionary,
    directions: Float[Tensor, "directions d"],
    coefficients: Sequence[Coefficient],
    prompts: Sequence[str],
    plan: SamplingPlan,
    *,
    rows_at_once: int = 4096,
) -> Float[Tensor, "directions n"]:
    """Mean activation of every feature on what the model writes under each direction, as it reads that text itself
    without steering, less the same for the unsteered model.

    Raises:
        UsageError: other numbers of coefficients and directions, or a dictionary without a site.
    """
    if dictionary.site is None or len(coefficients) != len(directions):
        raise UsageError(
            f"effects: a dictionary at a site and {len(directions)} coefficients expected, found {len(coefficients)}"
        )
    site = dictionary.site
    pushes = [add(site, one, c) for one, c in zip(directions, coefficients, strict=True)]
    cells = [Cell("unsteered"), *(Cell("direction", (one,)) for one in pushes)]
    means = []
    for new in write(model, cells, prompts, plan, rows_at_once=rows_at_once):

        def summed(batch: ActivationBatch) -> Tensor:
            return dictionary.encode_dense(batch.counted(site)).double().sum(dim=0)

        # What was written is text; of its first token nothing came before.
        mask = new.mask & ~new.first
        total = sum(ActivationStream(model, new, [site], mask=mask, batch_size=256).map(summed))
        means.append(total / mask.sum().clamp(min=1))
    found: Tensor = torch.stack(means[1:]) - means[0]
    return found.float().cpu()


@torch.no_grad()
def coefficients_at_budget(
    model: LanguageModel,
    interventions: Sequence[Intervention],
    text: Tokens,
    budget: float,
    *,
    rows_at_once: int = 256,
) -> list[Coefficient]:
    """For each intervention a coefficient whose rise of cross-entropy on a text is at most `budget` nats a token and at
    least nine tenths of that, or four times its present coefficient, if that is within the budget too.

    Small pushes cost about the square of their strength, which makes the first guesses; then a range is halved. All
    interventions that are not there yet are in one batch. Units stay.

    Raises:
        UsageError: a budget that is not positive.
    """
    if not budget > 0:
        raise UsageError(f"budget: a rise of cross-entropy above 0 nats expected, found {budget}")
    low, high = torch.zeros(len(interventions)), torch.full((len(interventions),), _LARGEST)
    guess, left = torch.full_like(low, _FIRST), torch.arange(len(interventions))
    for number in range(_TRIES):
        tried = [interventions[one].at(interventions[one].coefficient.times(float(guess[one]))) for one in left]
        cells = [Cell("budget", (one,)) for one in tried]
        rise = prediction_changes(model, cells, text, rows_at_once=rows_at_once).mean("cross_entropy").float()
        within, at = rise <= budget, guess[left]
        low[left], high[left] = torch.where(within, at, low[left]), torch.where(within, high[left], at)
        room = high[left] - low[left]
        wanted = at * ((1 + _NEAR) / 2 * budget / rise.clamp(min=1e-6)).sqrt()
        wanted = torch.minimum(torch.maximum(wanted, low[left] + room / 10), high[left] - room / 10)
        guess[left] = wanted if number < _GUESSES else (low[left] + high[left]) / 2
        left = left[~(within & (rise >= _NEAR * budget)) & (room > _CLOSE * high[left])]
        if not len(left):
            break
    return [one.coefficient.times(float(c)) for one, c in zip(interventions, low, strict=True)]
