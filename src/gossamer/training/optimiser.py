"""Adam on dictionaries whose decoder rows keep their norms, with a state that goes to a file and back."""

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.training.controls import FROZEN, NONE, SOFT, held_near

_CACHED = 2**18
_STATE = ("exp_avg", "exp_avg_sq", "step")


class Optimiser:
    """Adam over one dictionary's parameters. Memory: two moments a parameter.

    With `decoder_norm` "unit" the rows of W_dec keep the norms they had at the start: the part of the gradient along
    the rows is removed before a step (it would only fill the moments) and the rows are rescaled after it. With
    "at_most_one" rows longer than 1 are cut back after a step; with "free" nothing is done.

    With a `control` one of the parameters keeps the values it has here, or the rows of W_dec stay near
    them; see :mod:`gossamer.training.controls`.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        clip: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        decoder_norm: str = "unit",
        control: str = NONE,
    ) -> None:
        self.parameters, self.clip, self.decoder_norm = dict(parameters), clip, decoder_norm
        self.frozen, self.start = FROZEN.get(control), None
        if control == SOFT:
            self.start = self.parameters["W_dec"].detach().clone()
        self.norms = self.parameters["W_dec"].detach().norm(dim=1, keepdim=True)
        # What Adam sees of each: its fused implementation copies what does not lie in a row.
        self.in_memory = {name: _as_it_lies(value.detach(), value) for name, value in self.parameters.items()}
        # The learning rate is given with every step. The fused implementation is three times faster on the CPU.
        self.adam = torch.optim.Adam(list(self.in_memory.values()), lr=0.0, betas=betas, fused=True)

    def step(self, gradients: Mapping[str, Tensor], rate: float) -> None:
        """Clip the norm of all `gradients` together and descend with learning rate `rate`. May change `gradients`."""
        for name, seen in self.in_memory.items():
            seen.grad = _as_it_lies(gradients[name], self.parameters[name]).contiguous()
            if name == self.frozen:
                # With moments of 0 Adam moves nothing, and checkpoints are as always.
                seen.grad.zero_()
        with torch.no_grad():
            rows = self.in_memory["W_dec"]
            if self.decoder_norm == "unit":
                assert rows.grad is not None
                for gradient, row, norm in _blocks(rows.grad, rows, self.norms):
                    gradient.addcmul_(row, (gradient * row).sum(dim=1, keepdim=True) / norm**2, value=-1)
            self._clip()
            self.adam.param_groups[0]["lr"] = rate
            self.adam.step()
            self.adam.zero_grad()
            self._settle(rows)

    def _settle(self, rows: Tensor) -> None:
        if self.frozen == "W_dec":
            return
        if self.start is not None:
            rows.copy_(held_near(rows, self.start))
        if self.decoder_norm == "unit":
            for row, norm in _blocks(rows, self.norms):
                row *= norm / row.norm(dim=1, keepdim=True)
        elif self.decoder_norm == "at_most_one":
            rows /= rows.norm(dim=1, keepdim=True).clamp(min=1)

    def _clip(self) -> None:
        gradients = [seen.grad for seen in self.in_memory.values() if seen.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # Where looking is free, a pass over all of them can be saved.
        if norm.device.type != "cpu" or not norm <= self.clip:
            torch.nn.utils.clip_grads_with_norm_(self.in_memory.values(), self.clip, norm)

    def forget(self, latents: Int[Tensor, "some"]) -> None:
        """Set the moments of these latents to 0, in every parameter that has a share for each latent."""
        for name, seen in self.in_memory.items():
            if name != "b_dec" and seen in self.adam.state:
                for key in ("exp_avg", "exp_avg_sq"):
                    moment = _as_it_lies(self.adam.state[seen][key], self.parameters[name])
                    (moment.t() if name == "W_enc" else moment)[latents] = 0

    def state(self) -> dict[str, Tensor]:
        """Parameters and moments, by name, moments in the shape of the parameter."""
        tensors = dict(self.parameters)
        for name, parameter in self.parameters.items():
            moments = self.adam.state[self.in_memory[name]]
            tensors |= {f"{name}.{key}": _as_it_lies(moments[key], parameter) for key in _STATE}
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` returned."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[name])
                seen = self.in_memory[name]
                self.adam.state[seen] = {key: _moment(tensors[f"{name}.{key}"], parameter) for key in _STATE}


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of all, on a CPU as many at a time as stay in its cache while they are worked on."""
    rows, width = tensors[0].shape
    size = max(1, _CACHED // width) if tensors[0].device.type == "cpu" else rows
    return zip(*(torch.split(tensor, size) for tensor in tensors), strict=True)


def _as_it_lies(value: Tensor, parameter: Tensor) -> Tensor:
    """`value`, of the parameter's shape, the way round in which the parameter lies in memory; done twice, nothing."""
    return value.t() if value.dim() == 2 and not parameter.is_contiguous() else value


def _moment(value: Tensor, parameter: Tensor) -> Tensor:
    own = _as_it_lies(value, parameter) if value.shape == parameter.shape else value
    return own.to(parameter.device, copy=True, memory_format=torch.contiguous_format)
