"""Adam on dictionaries whose decoder rows keep their norms, with a state that goes to a file and back."""

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

_STATE = ("exp_avg", "exp_avg_sq", "step")


class Optimiser:
    """Adam over one dictionary's parameters. Memory: two moments a parameter.

    With `decoder_norm` "unit" the rows of W_dec keep the norms they had at the start: the part of the gradient along
    the rows is removed before a step (it would only fill the moments) and the rows are rescaled after it. With
    "at_most_one" rows longer than 1 are cut back after a step; with "free" nothing is done.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        clip: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        decoder_norm: str = "unit",
    ) -> None:
        self.parameters, self.clip, self.decoder_norm = dict(parameters), clip, decoder_norm
        self.norms = self.parameters["W_dec"].detach().norm(dim=1, keepdim=True)
        # The learning rate is given with every step. The fused implementation is three times faster on the CPU.
        self.adam = torch.optim.Adam(list(self.parameters.values()), lr=0.0, betas=betas, fused=True)

    def step(self, gradients: Mapping[str, Tensor], rate: float) -> None:
        """Clip the norm of all `gradients` together and descend with learning rate `rate`."""
        for name, parameter in self.parameters.items():
            parameter.grad = _laid_out_like(parameter, gradients[name])
        with torch.no_grad():
            rows = self.parameters["W_dec"]
            if self.decoder_norm == "unit":
                gradient = rows.grad
                assert gradient is not None
                gradient -= (gradient * rows).sum(dim=1, keepdim=True) / self.norms**2 * rows
            torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.clip)
            self.adam.param_groups[0]["lr"] = rate
            self.adam.step()
            self.adam.zero_grad()
            self._settle(rows)

    def _settle(self, rows: Tensor) -> None:
        if self.decoder_norm == "unit":
            rows *= self.norms / rows.norm(dim=1, keepdim=True)
        elif self.decoder_norm == "at_most_one":
            rows /= rows.norm(dim=1, keepdim=True).clamp(min=1)

    def forget(self, latents: Int[Tensor, "some"]) -> None:
        """Set the moments of these latents to 0, in every parameter that has a share for each latent."""
        for name, parameter in self.parameters.items():
            if name != "b_dec" and parameter in self.adam.state:
                for key in ("exp_avg", "exp_avg_sq"):
                    moment = self.adam.state[parameter][key]
                    (moment.t() if name == "W_enc" else moment)[latents] = 0

    def state(self) -> dict[str, Tensor]:
        """Parameters and moments, by name."""
        tensors = dict(self.parameters)
        for name, parameter in self.parameters.items():
            tensors |= {f"{name}.{key}": self.adam.state[parameter][key] for key in _STATE}
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` returned."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[name])
                self.adam.state[parameter] = {
                    key: _laid_out_like(parameter, tensors[f"{name}.{key}"]) for key in _STATE
                }


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` with the strides of the parameter: the fused step walks through memory, not through indices."""
    if value.shape != parameter.shape:
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter).copy_(value)
