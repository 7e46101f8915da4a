r"""One sparse dictionary learning to reconstruct the activations of its site.

In the units of training, y = (activation - mean) @ into, fixed at the start, with one scale such that y has unit
variance per dimension on average:

    pre  = y @ W_enc + b_enc
    a    = pre where it is among the k largest (of its token, or k on average over the batch) and positive, else 0
    loss = ||y - a @ W_dec - b_dec||^2 / d  +  aux_weight * ||e - pre_dead @ W_dec[dead]||^2 / d

with e the error of the first term (no gradient through it) and `pre_dead` the `aux_k` largest pre-activations among the
latents that are dead (AuxK, Gao et al. 2024). They enter without ReLU, so that the gradient reaches the encoder row of
a latent which is negative everywhere: that is the latent which needs it. Rows of W_dec have norm 1 throughout, W_enc
starts as W_dec transposed, b_dec at 0, which is the mean.

`into` is the root of the metric in which errors are counted: (1 - s) * identity + s * G, where G says how much the
model's output minds an error in each direction (:mod:`gossamer.training.sensitivity`) and s is a setting. Afterwards
`into`, mean and scale are folded into the weights and rows of W_dec are brought to norm 1 again.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.dictionary.config import Contents, DictionaryConfig
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.site import Site
from gossamer.training.active import Active, batchtopk, reconstruct, topk
from gossamer.training.config import FitConfig
from gossamer.training.optimiser import Optimiser
from gossamer.training.seeding import generator

# The guess below which no pre-activation is looked at, as a share of the last step's smallest one kept.
MARGIN = 0.8


class Learner:
    """One dictionary in training. Memory: parameters 2 * d * n, twice that in moments, batch * n pre-activations.

    Attributes:
        parameters: W_enc (d, n), W_dec (n, d), b_enc (n), b_dec (d), in the units of training.
        threshold: moving average of the smallest activation kept; negative before the first step.
        idle: tokens since each latent last fired.
    """

    def __init__(
        self, site: Site, mean: Float[Tensor, "d"], into: Float[Tensor, "d d"], config: FitConfig, seed: int
    ) -> None:
        self.site, self.mean, self.into, self.config = site, mean, into, config
        d, n = len(mean), config.n_latents
        rows = torch.randn(n, d, generator=generator(seed, "decoder", str(site))).to(mean)
        rows /= rows.norm(dim=1, keepdim=True)
        initial = {"W_enc": rows.t().clone(), "W_dec": rows, "b_enc": rows.new_zeros(n), "b_dec": rows.new_zeros(d)}
        self.parameters = {name: value.requires_grad_() for name, value in initial.items()}
        self.optimiser = Optimiser(self.parameters, config.clip)
        self.threshold = -1.0
        self.smallest = 0.0
        self.idle = torch.zeros(n, dtype=torch.long, device=mean.device)

    @classmethod
    def begin(
        cls,
        site: Site,
        first: Float[Tensor, "tokens d"],
        metric: Float[Tensor, "d d"] | None,
        config: FitConfig,
        seed: int,
    ) -> "Learner":
        """A new learner; mean and scale are those of `first`, some activations of the site. `metric` is G, if s > 0.

        Raises:
            UsageError: the activations do not vary.
        """
        mean = first.mean(dim=0)
        root = torch.eye(len(mean)).to(mean)
        if metric is not None:
            mixed = (1 - config.sensitivity) * root + config.sensitivity * metric.to(mean)
            values, vectors = torch.linalg.eigh(mixed)
            root = (vectors * values.clamp(min=0).sqrt()) @ vectors.t()
        scale = ((first - mean) @ root).square().mean().sqrt()
        if not scale > 0:
            raise UsageError(f"activations at {site} are all equal; give another site or more text")
        return cls(site, mean, root / scale, config, seed)

    @classmethod
    def resume(
        cls, site: Site, tensors: Mapping[str, Tensor], config: FitConfig, seed: int, device: torch.device
    ) -> "Learner":
        """The learner whose :meth:`state` the tensors are."""
        learner = cls(site, tensors["mean"].to(device), tensors["into"].to(device), config, seed)
        learner.optimiser.restore(tensors)
        learner.idle = tensors["idle"].to(device)
        learner.threshold, learner.smallest = tensors["numbers"].tolist()
        return learner

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint needs, by name."""
        numbers = torch.tensor([self.threshold, self.smallest], dtype=torch.float64)
        fixed = {"mean": self.mean, "into": self.into}
        return {**self.optimiser.state(), **fixed, "idle": self.idle, "numbers": numbers}

    def step(self, activations: Float[Tensor, "tokens d"], rate: float) -> dict[str, float]:
        """One optimiser step on raw activations with learning rate `rate`.

        Returns the loss without AuxK, explained variance (in the metric of the loss) and L0 of this batch, and the
        share of dead latents.

        Raises:
            NotFiniteError: the activations or the loss are not finite (the site is named).
        """
        x = (require_finite(activations, f"activations at {self.site}") - self.mean) @ self.into
        p = self.parameters
        with torch.no_grad():
            pre = torch.addmm(p["b_enc"], x, p["W_enc"])
        active = self._select(pre)
        dead = self._update_idle(active, len(x))
        error = x - reconstruct(x, p["W_enc"], p["b_enc"], p["W_dec"], pre, active) - p["b_dec"]
        loss = error.square().mean()
        total = loss + self.config.aux_weight * self._aux_loss(x, error.detach(), dead)
        require_finite(total, f"training loss at {self.site}")
        gradients = torch.autograd.grad(total, list(p.values()))
        self.optimiser.step(dict(zip(p, gradients, strict=True)), rate)
        spread = (x - x.mean(dim=0)).square().mean()
        return {
            "loss": float(loss.detach()),
            "explained_variance": 1 - float(loss.detach()) / float(spread),
            "l0": len(active.latents) / len(x),
            "dead": len(dead) / self.config.n_latents,
        }

    def _select(self, pre: Tensor) -> Active:
        if self.config.objective == "topk":
            return topk(pre, self.config.k)
        active, self.smallest = batchtopk(pre, self.config.k, MARGIN * self.smallest)
        keep = self.config.threshold_decay if self.threshold >= 0 else 0.0
        self.threshold = keep * self.threshold + (1 - keep) * self.smallest
        return active

    def _update_idle(self, active: Active, tokens: int) -> Tensor:
        """Count on, and return the latents that are dead."""
        self.idle += tokens
        self.idle[active.latents] = 0
        return (self.idle > self.config.dead_after).nonzero()[:, 0]

    def _aux_loss(self, x: Tensor, error: Tensor, dead: Tensor) -> Tensor:
        if len(dead) == 0 or self.config.aux_weight == 0:
            return x.new_zeros(())
        p = self.parameters
        pre = torch.addmm(p["b_enc"][dead], x, p["W_enc"][:, dead])
        values, indices = pre.topk(min(self.config.aux_k, len(dead)), dim=1)
        activations = torch.zeros_like(pre).scatter(1, indices, values)
        return (error - activations @ p["W_dec"][dead]).square().mean()

    def dictionary(self, model_name: str, provenance: dict[str, Any]) -> Dictionary:
        """The dictionary as it works on raw activations: `into` and mean folded, decoder rows of norm 1.

        BatchTopK becomes its inference form: one threshold if errors were counted evenly (architecture batchtopk), one
        for each latent if they were not (jumprelu), since rows of norm 1 are no longer of norm 1 in the model's units.
        """
        p = {name: value.detach() for name, value in self.parameters.items()}
        rows = torch.linalg.solve(self.into, p["W_dec"], left=False)
        even = self.config.sensitivity == 0
        norms = rows.norm(dim=1).mean().expand(len(rows)) if even else rows.norm(dim=1)
        encoder = self.into @ p["W_enc"] * norms
        d, n = encoder.shape
        tensors = {
            "W_enc": encoder,
            "W_dec": rows / norms[:, None],
            "b_enc": p["b_enc"] * norms - self.mean @ encoder,
            "b_dec": torch.linalg.solve(self.into, p["b_dec"][None], left=False)[0] + self.mean,
        }
        topk = self.config.objective == "topk"
        if not topk:
            tensors["threshold"] = self.threshold * (norms[0] if even else norms)
        architecture = self.config.objective if topk or even else "jumprelu"
        k = self.config.k if topk or even else None
        config = DictionaryConfig(architecture, d, n, site=self.site, model_name=model_name, k=k)
        return assembled(config, tensors, provenance)


def assembled(config: DictionaryConfig, tensors: Mapping[str, Tensor], provenance: dict[str, Any]) -> Dictionary:
    """A frozen dictionary with these parameters and no claims."""
    return Dictionary.from_contents(Contents(config, dict(tensors), provenance))
