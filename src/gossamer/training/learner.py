r"""One sparse dictionary learning to reconstruct the activations of its site.

In the units of training, where x is an activation minus the mean of its site, divided by one scale (both fixed at the
start):

    pre  = x @ W_enc + b_enc
    a    = pre where it is among the k largest (of its token, or k on average over the batch) and positive, else 0
    loss = ||x - a @ W_dec - b_dec||^2 / d  +  aux_weight * ||e - pre_dead @ W_dec[dead]||^2 / d

with e the error of the first term (no gradient through it) and `pre_dead` the `aux_k` largest pre-activations among the
latents that are dead (AuxK, Gao et al. 2024). They enter without ReLU, so that the gradient reaches the encoder row of
a latent which is negative everywhere: that is the latent which needs it. Rows of W_dec have norm 1 throughout, W_enc
starts as W_dec transposed, b_dec at 0, which is the mean. Afterwards mean and scale are folded into the weights.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.dictionary.config import DictionaryConfig
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError, require_finite
from gossamer.model.site import Site
from gossamer.training.active import Active, batchtopk, reconstruct, topk
from gossamer.training.config import FitConfig
from gossamer.training.optimiser import Optimiser
from gossamer.training.seeding import generator

# The guess below which no pre-activation is looked at, as a share of the last step's smallest one kept.
_MARGIN = 0.8


class Learner:
    """One dictionary in training. Memory: 4 * (2 * d * n) parameters and moments, and batch * n pre-activations.

    Attributes:
        parameters: W_enc (d, n), W_dec (n, d), b_enc (n), b_dec (d), in the units of training.
        threshold: moving average of the smallest activation kept; negative before the first step.
        idle: tokens since each latent last fired.
    """

    def __init__(self, site: Site, mean: Float[Tensor, "d"], scale: float, config: FitConfig, seed: int) -> None:
        """`mean` and `scale` turn activations into the units of training: (activation - mean) / scale."""
        self.site, self.mean, self.scale, self.config = site, mean, scale, config
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
    def begin(cls, site: Site, first: Float[Tensor, "tokens d"], config: FitConfig, seed: int) -> "Learner":
        """A new learner whose mean and scale are those of `first`, some activations of the site.

        Raises:
            UsageError: the activations do not vary.
        """
        mean = first.mean(dim=0)
        scale = float((first - mean).square().mean().sqrt())
        if not scale > 0:
            raise UsageError(f"activations at {site} are all equal; give another site or more text")
        return cls(site, mean, scale, config, seed)

    @classmethod
    def resume(cls, site: Site, tensors: Mapping[str, Tensor], config: FitConfig, seed: int) -> "Learner":
        """The learner whose :meth:`state` the tensors are."""
        learner = cls(site, tensors["mean"], 1.0, config, seed)
        learner.optimiser.restore(tensors)
        learner.idle = tensors["idle"]
        learner.scale, learner.threshold, learner.smallest = tensors["numbers"].tolist()
        return learner

    def step(self, activations: Float[Tensor, "tokens d"], rate: float) -> dict[str, float]:
        """One optimiser step on raw activations; returns loss, explained variance, L0 and the share of dead latents.

        Raises:
            NotFiniteError: the activations or the loss are not finite (the site is named).
        """
        x = (require_finite(activations, f"activations at {self.site}") - self.mean) / self.scale
        p = self.parameters
        with torch.no_grad():
            pre = torch.addmm(p["b_enc"], x, p["W_enc"])
        active = self._select(pre)
        dead = self._update_idle(active, len(x))
        error = x - reconstruct(x, p["W_enc"], p["b_enc"], p["W_dec"], pre, active) - p["b_dec"]
        loss = error.square().mean()
        total = loss + self.config.aux_weight * self._aux_loss(x, error.detach(), dead)
        require_finite(total, f"training loss at {self.site}")
        names = list(p)
        gradients = torch.autograd.grad(total, [p[name] for name in names])
        self.optimiser.step(dict(zip(names, gradients, strict=True)), rate)
        spread = (x - x.mean(dim=0)).square().mean()
        return {
            "loss": float(total.detach()),
            "explained_variance": 1 - float(loss.detach()) / float(spread),
            "l0": len(active.latents) / len(x),
            "dead": len(dead) / self.config.n_latents,
        }

    def _select(self, pre: Tensor) -> Active:
        if self.config.objective == "topk":
            return topk(pre, self.config.k)
        active, self.smallest = batchtopk(pre, self.config.k, _MARGIN * self.smallest)
        keep = self.config.threshold_decay if self.threshold >= 0 else 0.0
        self.threshold = keep * self.threshold + (1 - keep) * self.smallest
        return active

    def _update_idle(self, active: Active, tokens: int) -> Tensor:
        """Latents that are dead."""
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

    def state(self) -> dict[str, Tensor]:
        """Everything that changes in training, by name."""
        numbers = torch.tensor([self.scale, self.threshold, self.smallest], dtype=torch.float64)
        return {**self.optimiser.state(), "idle": self.idle, "mean": self.mean, "numbers": numbers}

    def dictionary(self, model_name: str, provenance: dict[str, Any]) -> Dictionary:
        """The dictionary as it works on raw activations: mean and scale folded into its weights."""
        p = {name: value.detach() for name, value in self.parameters.items()}
        tensors = {
            "W_enc": p["W_enc"].clone(),
            "W_dec": p["W_dec"].clone(),
            "b_enc": p["b_enc"] * self.scale - self.mean @ p["W_enc"],
            "b_dec": p["b_dec"] * self.scale + self.mean,
        }
        if self.config.objective == "batchtopk":
            tensors["threshold"] = torch.tensor(self.threshold * self.scale, dtype=self.mean.dtype)
        d, n = tensors["W_enc"].shape
        config = DictionaryConfig(self.config.objective, d, n, site=self.site, model_name=model_name, k=self.config.k)
        dictionary = Dictionary(config, provenance=provenance, device="meta")
        dictionary.load_state_dict(tensors, assign=True)
        return dictionary.requires_grad_(False)
