"""A norm of a model, whatever its class: what it subtracts, what it divides by, its gain and its bias."""

import torch
from accelerate.utils import align_module_device
from jaxtyping import Float
from torch import Tensor, nn

# torch's own default, for norms that keep theirs to themselves.
_EPS = 1e-5


class Norm:
    """Facts of a norm module, found out by running it on two vectors.

    out = gain * (x - mean(x)) * scale(x) + bias        scale(x) = 1 / sqrt(mean((x - mean(x))^2) + eps)

    without the mean for an RMS norm. Gains are read anew at each call, so that they follow the weights.
    """

    def __init__(self, module: nn.Module, d_model: int) -> None:
        self.module = module
        self.eps = float(getattr(module, "eps", None) or getattr(module, "variance_epsilon", None) or _EPS)
        ramp = torch.linspace(-1, 1, d_model)
        with torch.no_grad():
            zero, one, out = (self._run(probe) for probe in (torch.zeros(d_model), torch.ones(d_model), ramp))
            self.centres = torch.allclose(one, zero, atol=1e-4)
            ramp = ramp.to(out.device)
            unit = self.normalized(ramp, self.scale(ramp))
            # Gemma's norms multiply by one more than their weight.
            self.offset = bool(
                (out - zero - unit * self._gain(unit, False)).norm()
                > (out - zero - unit * self._gain(unit, True)).norm()
            )

    def _run(self, probe: Tensor) -> Tensor:
        reference = next(self.module.parameters(), probe)
        device = "cpu" if reference.is_meta else reference.device  # what accelerate keeps elsewhere it brings in itself
        # Not a call: hooks of a pass that is running must not see it.
        return self.module.forward(probe.to(device, reference.dtype)).float()

    def _parameter(self, name: str, like: Tensor) -> Tensor | None:
        with align_module_device(self.module):
            value = getattr(self.module, name, None)
            return None if value is None else value.to(like)

    def _gain(self, like: Tensor, offset: bool) -> Tensor | float:
        weight = self._parameter("weight", like)
        return 1.0 if weight is None else weight + 1 if offset else weight

    def scale(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... one"]:
        """1 / std of x (1 / rms for an RMS norm), in float32 at least."""
        return torch.rsqrt(self._centred(x).pow(2).mean(dim=-1, keepdim=True) + self.eps)

    def normalized(self, x: Float[Tensor, "... d"], scale: Float[Tensor, "... #one"]) -> Float[Tensor, "... d"]:
        """x centred (unless it is an RMS norm) and multiplied by `scale`: before gain and bias."""
        return self._centred(x) * scale

    def output(self, normalized: Float[Tensor, "... d"], dtype: torch.dtype) -> Float[Tensor, "... d"]:
        """What the norm puts out for what it has normalized."""
        bias = self._parameter("bias", normalized)
        return (normalized * self._gain(normalized, self.offset) + (0 if bias is None else bias)).to(dtype)

    def pulled_back(
        self, cotangent: Float[Tensor, "... d"], scale: Float[Tensor, "... #one"]
    ) -> tuple[Float[Tensor, "... d"], Float[Tensor, "..."]]:
        """A linear function of the norm's output as one of its input, with `scale` held fixed, and its constant.

        cotangent . output(normalized(x, scale)) = first . x + second        for every x
        """
        inner = cotangent * self._gain(cotangent, self.offset) * scale
        bias = self._parameter("bias", cotangent)
        constant = cotangent.new_zeros(cotangent.shape[:-1]) if bias is None else cotangent @ bias
        return inner - inner.mean(dim=-1, keepdim=True) if self.centres else inner, constant

    def pushed_forward(self, x: Float[Tensor, "... d"], scale: Float[Tensor, "... #one"]) -> Float[Tensor, "... d"]:
        """What a part of the norm's input makes of its output with `scale` held fixed: no bias, which is no part's."""
        return self.normalized(x, scale) * self._gain(x, self.offset)

    def _centred(self, x: Tensor) -> Tensor:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return x - x.mean(dim=-1, keepdim=True) if self.centres else x
