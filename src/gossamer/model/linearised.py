"""MLPs whose backward pass is linear: relevance rules in place of derivatives."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2CLS

from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel

_ACTIVATIONS = tuple(
    {kind[0] if isinstance(kind, tuple) else kind for kind in ACT2CLS.values()} | {nn.GELU, nn.SiLU, nn.ReLU}
)


@contextlib.contextmanager
def linear_mlps(model: LanguageModel) -> Iterator[None]:
    """Inside, gradients pass an MLP as relevance does; what passes forward stays as it is.

    An activation function f counts as the factor f(x)/x, held constant; of the product of a gate and what it gates,
    each gets half. With attention patterns and norm scales held too, a model without biases has then the value of a
    logit for the product of its input with the gradient. Source: RelP, Jafari et al. 2025.

    Raises:
        UsageError: a mixture of experts, or an MLP without one activation module of those that transformers has.
    """
    if problem := without_a_rule(model):
        raise UsageError(f"{model.title}: {problem}; relevance has no rule for it: use attribution patching")
    handles: list[Any] = []
    try:
        for layer in range(model.n_layers):
            mlp = model.anatomy.part(layer, "mlp")
            handles += [found.register_forward_hook(_as_a_factor) for found in _activations(mlp)]
            if any("gate" in name for name, _ in mlp.named_children()):
                handles.append(mlp.register_forward_hook(_halved))
        yield
    finally:
        for handle in handles:
            handle.remove()


def without_a_rule(model: LanguageModel) -> str | None:
    """What of the model :func:`linear_mlps` cannot pass, in words; None: it has a rule for every MLP."""
    for layer in range(model.n_layers):
        mlp = model.anatomy.part(layer, "mlp")
        experts = any("expert" in name for name, _ in mlp.named_modules())
        if experts or len(_activations(mlp)) != 1:
            found = "a mixture of experts" if experts else len(_activations(mlp))
            return f"an MLP with one activation function expected in layer {layer}, found {found}"
    return None


def _activations(mlp: nn.Module) -> list[nn.Module]:
    return [module for module in mlp.modules() if isinstance(module, _ACTIVATIONS)]


def _as_a_factor(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    x = args[0]
    # Where x is 0 the factor is the slope of GELU and SiLU there.
    small = x.detach().abs() < torch.finfo(x.dtype).tiny ** 0.5
    factor = torch.where(small, 0.5, output.detach() / torch.where(small, 1.0, x.detach()))
    return output.detach() + factor * (x - x.detach())


def _halved(module: nn.Module, args: Any, output: Any) -> Any:
    found = output[0] if isinstance(output, tuple) else output
    half = found.detach() + 0.5 * (found - found.detach())
    return (half, *output[1:]) if isinstance(output, tuple) else half
