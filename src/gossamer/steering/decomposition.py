"""A steering vector as a sum of decoder rows: what its features are, and the vector without those that do not matter.

A vector itself is never encoded: it is much shorter than the data, so that the encoder's bias decides, and a feature
that it lacks cannot be negative (Mayne et al. 2024, arXiv 2411.08790). Instead both sorts of text are encoded apart, or
rows are pursued with both signs, or coefficients are cleaned up by the gradient of what the vector is for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.pursuit import pursue
from gossamer.dictionary.slopes import DecoderRows
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.finite import require_finite
from gossamer.model.language_model import LanguageModel
from gossamer.model.predictions import predicting
from gossamer.replacement.replacement_model import frozen_weights, resumable
from gossamer.statistics import auroc
from gossamer.steering.vectors import ContrastStates, SteeringVector
from gossamer.tokens import Tokens


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A vector as a signed sum of decoder rows and an error.

    Attributes:
        method: separate_encoding, gradient, orthogonal or clean_up.
        original: the vector.
        dictionary: whose rows.
        latents: by falling share, |coefficient| times the norm of the row.
        coefficients: of these latents; negative ones mean that the vector turns away from a feature.
    """

    method: str
    original: SteeringVector
    dictionary: Dictionary
    latents: Int[Tensor, "k"]
    coefficients: Float[Tensor, "k"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.method} of {self.original.method} at {self.original.site}"
        yield f"{plural(len(self.latents), 'feature')}, explains {self.explained:.1%}"

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features, by falling share."""
        return tuple(Feature(self.original.site, latent) for latent in self.latents.tolist())

    def reconstruction(self, latents: Sequence[int] | None = None) -> SteeringVector:
        """The sum over all of its features, or over some of them: no error, no bias.

        Raises:
            UsageError: one that is none of its features.
        """
        name = "reconstruction" if latents is None else "chosen_features"
        return replace(self.original, method=name, vector=self._sum(latents))

    def without(self, latents: Sequence[int]) -> SteeringVector:
        """The original vector less what these features write: the error stays, as does every other feature.

        Raises:
            UsageError: one that is none of its features.
        """
        return replace(self.original, method="cleaned", vector=self.original.vector - self._sum(latents))

    @property
    def explained(self) -> float:
        """1 - |v - reconstruction|^2 / |v|^2; below 0 where the reconstruction is worse than nothing."""
        error = self.original.vector - self._sum(None)
        return 1 - float(error.square().sum() / self.original.vector.square().sum())

    def _sum(self, latents: Sequence[int] | None) -> Float[Tensor, "d"]:
        chosen = torch.ones_like(self.latents, dtype=torch.bool)
        if latents is not None:
            unknown = set(latents) - set(self.latents.tolist())
            if unknown:
                raise UsageError(f"decomposition: of its {len(self.latents)} features expected, found {min(unknown)}")
            chosen = torch.isin(self.latents, torch.tensor(list(latents), dtype=torch.long))
        rows = self.dictionary.W_dec[self.latents[chosen]].detach()
        return self.coefficients[chosen].to(rows) @ rows


@torch.no_grad()
def by_separate_encoding(dictionary: Dictionary, states: ContrastStates, k: int | None = None) -> Decomposition:
    """Encode both sorts of text apart: coefficients are differences of mean activations; the decoder bias cancels.

    The vector is the mean difference of the states. Memory: latents of all tokens.

    Args:
        k: most features; None: all whose mean differs.
    """
    _require_fit(dictionary, states)
    change = dictionary.encode_dense(states.positive).mean(dim=0) - dictionary.encode_dense(states.negative).mean(dim=0)
    return _sorted(
        "separate_encoding", SteeringVector("difference", states.site, states.difference), dictionary, change, k
    )


@torch.no_grad()
def by_pursuit(dictionary: Dictionary, vector: SteeringVector, k: int, method: str = "gradient") -> Decomposition:
    """At most k rows, each with either sign, by "gradient" or "orthogonal" pursuit of the vector itself.

    A good reconstruction does not make good features: judge the result by :func:`held_out_fit` too.

    Raises:
        UsageError: a k or method that is none, or a vector of several positions.
    """
    if method not in ("gradient", "orthogonal") or vector.vector.ndim != 1:
        raise UsageError(f"pursuit of a vector: gradient or orthogonal, and one vector expected, found {method!r}")
    rows = dictionary.W_dec.detach()
    found = pursue(vector.vector.to(rows)[None], DecoderRows.of(torch.cat([rows, -rows])), k, method=method).dense()[0]
    both = found.reshape(2, -1)
    return _sorted(method, vector, dictionary, both[0] - both[1], k)


def clean_up(
    model: LanguageModel,
    given: Decomposition,
    texts: Tokens,
    *,
    penalty: float = 0.01,
    steps: int = 40,
    lr: float = 0.02,
    drop: float = 0.02,
) -> Decomposition:
    """Fewer features that do the same: from the coefficients given, minimise the NLL of texts with the concept under
    steering plus `penalty` times sum |c| |d|, by Adam, then drop features below `drop` of the largest.

    Plain pursuit of such vectors failed where this found 10 of 100 features that did better than the vector (Smith et
    al. 2024, "SAE features for refusal and sycophancy steering vectors", and task vectors). The length of the result
    is its own: sweep its coefficient. Cost: `steps` passes forward and backward from the site on.

    Args:
        texts: rows with the concept, padded on the right; all their tokens but the first are predicted.

    Raises:
        NotFiniteError: the loss is not finite; take a smaller `lr`.
    """
    dictionary, site = given.dictionary, given.original.site
    rows = dictionary.W_dec[given.latents].detach()
    norms = rows.norm(dim=1)
    start = resumable(site)
    place = predicting(texts)
    following = texts.ids[:, 1:][place].to(model.device)
    with torch.no_grad():
        prefix = model.capture(texts, [start])[start]
    coefficients = given.coefficients.clone().to(rows).requires_grad_(True)
    optimiser = torch.optim.Adam([coefficients], lr=lr * float((given.coefficients.to(rows).abs()).max()))
    for _ in range(steps):
        write = coefficients @ rows
        with frozen_weights(model.hf), torch.enable_grad():
            if start == site:
                logits = model.resume(start, prefix + write.to(prefix), texts)
            else:
                with model.edit({site: lambda x, write=write: x + write.to(x)}):
                    logits = model.resume(start, prefix, texts)
            nll = torch.nn.functional.cross_entropy(logits[:, :-1][place].float(), following)
            loss = require_finite(nll, "loss of the clean-up") + penalty * (coefficients.abs() * norms).sum()
            (coefficients.grad,) = torch.autograd.grad(loss, coefficients)
        optimiser.step()
    with torch.no_grad():
        share = coefficients.abs() * norms
        dense = torch.zeros(dictionary.n_latents).index_put_((given.latents,), coefficients.detach().float())
        dense[given.latents[share < drop * share.max()]] = 0
    return _sorted("clean_up", given.original, dictionary, dense, None)


@dataclass(frozen=True)
class HeldOutFit:
    """Whether a vector still says what it did, on texts it was not made of.

    Attributes:
        cosine: with the mean difference of these texts.
        auroc: of texts' mean projections, positive above negative.
    """

    cosine: float
    auroc: float


def held_out_fit(vector: SteeringVector, states: ContrastStates) -> HeldOutFit:
    """How a vector (or a reconstruction of one) does on other texts than it was made of.

    Raises:
        UsageError: states of another site.
    """
    if vector.site != states.site:
        raise UsageError(f"held-out texts: states at {vector.site} expected, found {states.site}")
    v = vector.vector.to(states.positive)
    cosine = torch.nn.functional.cosine_similarity(v, states.difference, dim=0)
    ours, theirs = (states.text_means(side) @ v for side in ("positive", "negative"))
    return HeldOutFit(float(cosine), auroc(ours.tolist(), theirs.tolist()))


def _require_fit(dictionary: Dictionary, states: ContrastStates) -> None:
    dictionary.require_reconstruction("decomposing a steering vector")
    if dictionary.site != states.site:
        raise UsageError(f"decomposition: a dictionary at {states.site} expected, found one at {dictionary.site}")
    if dictionary.config.normalisation != "none":
        raise UsageError(
            f"decomposition: a dictionary that does not normalise its input expected, found "
            f"{dictionary.config.normalisation}: its rows have another length at every token"
        )


def _sorted(
    method: str, vector: SteeringVector, dictionary: Dictionary, dense: Float[Tensor, "n"], k: int | None
) -> Decomposition:
    share = dense.abs() * dictionary.W_dec.norm(dim=1).to(dense)
    count = int((share > 0).sum())
    if not count:
        raise UsageError(
            f"decomposition of {vector.method}: no feature of {dictionary.site} is in it; give other texts"
        )
    latents = share.topk(count if k is None else min(k, count)).indices
    return Decomposition(method, vector, dictionary, latents.cpu(), dense[latents].float().cpu())
