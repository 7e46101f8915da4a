"""Reading and editing inside attention: queries, keys, values and the pattern.

No module boundary shows these, so while such a site is asked for, and only then, attention runs through a function of
ours. It calls the function that was in use before (so the rest of the network computes exactly what it did), and works
out the pattern beside it with the model's own eager attention. Where an edit changed the pattern of a head and query,
the output there is `pattern @ v`; elsewhere it stays as it was, to the bit.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from gossamer.errors import UsageError
from gossamer.model.editing import Pass, current
from gossamer.model.family import Anatomy
from gossamer.model.site import Site

_PREFIX = "gossamer_"
_WRAPPED = ("eager", "sdpa")


def opens(anatomy: Anatomy) -> bool:
    """Whether the attention kernel in use can be opened."""
    return anatomy.family.core != "interface" or _original(anatomy.config) in _WRAPPED


@contextlib.contextmanager
def opened(run: Pass) -> Iterator[None]:
    """Route attention through this module while `run` wants a site inside it; no cost otherwise.

    Raises:
        UsageError: the model runs an attention kernel that cannot be opened (flash, flex).
    """
    if not run.attention:
        yield
    elif run.anatomy.family.core == "interface":
        with _interface_replaced(run.anatomy.config):
            yield
    else:
        with _methods_replaced(run):
            yield


@contextlib.contextmanager
def _interface_replaced(config: Any) -> Iterator[None]:
    before, original = config._attn_implementation, _original(config)
    if original not in _WRAPPED:
        raise UsageError(
            f"q, k, v and pattern cannot be read under {original!r} attention; "
            f"load the model with attn_implementation='sdpa' or 'eager'"
        )
    config._attn_implementation = _PREFIX + original
    try:
        yield
    finally:
        config._attn_implementation = before


def _original(config: Any) -> str:
    return str(config._attn_implementation).removeprefix(_PREFIX)


@contextlib.contextmanager
def _methods_replaced(run: Pass) -> Iterator[None]:
    name = run.anatomy.family.core
    with contextlib.ExitStack() as stack:
        for layer in {site.layer for site in run.attention if site.layer is not None}:
            module = run.anatomy.attention(layer)
            before = module.__dict__.get(name)
            setattr(module, name, partial(_method, run, layer, getattr(module, name)))
            stack.callback(partial(setattr, module, name, before) if before else partial(delattr, module, name))
        yield


def _method(
    run: Pass, layer: int, method: Callable[..., Any], query: Tensor, key: Tensor, value: Tensor, mask: Any
) -> Any:
    """In place of an attention method that returns its pattern (heads before positions, as it takes them)."""
    if not run.running:
        return method(query, key, value, mask)
    query, key, value = _visit_qkv(run, layer, query, key, value)
    out, pattern = method(query, key, value, mask)
    edited = _visit_pattern(run, layer, pattern)
    return _remixed(out, pattern, edited, value), edited


def _function(
    original: str, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **settings: Any
) -> tuple[Tensor, Tensor | None]:
    """In place of an attention function of transformers' interface (takes heads first, returns positions first)."""
    eager = sys.modules[type(module).__module__].eager_attention_forward
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(original, eager)
    run, layer = current(), int(module.layer_idx)  # type: ignore[arg-type]
    if run is None:
        return attend(module, query, key, value, mask, **settings)
    query, key, value = _visit_qkv(run, layer, query, key, value)
    out, _ = attend(module, query, key, value, mask, **settings)
    if Site("pattern", layer) not in run.attention:
        return out, None
    pattern = eager(module, query, key, value, _additive(mask, module, query), **settings)[1]
    edited = _visit_pattern(run, layer, pattern)
    return _remixed(out.transpose(1, 2), pattern, edited, value).transpose(1, 2), None


for _name in _WRAPPED:
    AttentionInterface.register(_PREFIX + _name, partial(_function, _name))
    AttentionMaskInterface.register(_PREFIX + _name, ALL_MASK_ATTENTION_FUNCTIONS[_name])


def _visit_qkv(run: Pass, layer: int, *heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = (
        run.visit(site, tensor.transpose(1, 2)).transpose(1, 2) if site in run.attention else tensor
        for site, tensor in zip((Site("q", layer), Site("k", layer), Site("v", layer)), heads, strict=True)
    )
    return query, key, value


def _visit_pattern(run: Pass, layer: int, pattern: Tensor) -> Tensor:
    site = Site("pattern", layer)
    return run.visit(site, pattern) if site in run.attention else pattern


def _remixed(out: Tensor, pattern: Tensor, edited: Tensor, value: Tensor) -> Tensor:
    """Head outputs (batch head pos d_head) under an edited pattern; value heads are repeated for grouped queries."""
    if edited is pattern:
        return out
    value = value.repeat_interleave(pattern.shape[1] // value.shape[1], dim=1)
    changed = (edited != pattern).any(dim=-1, keepdim=True)
    # The difference is zero where nothing changed, and carries the gradient of the edit there.
    return torch.where(changed, edited @ value, out + (edited - pattern) @ value)


def _additive(mask: Tensor | None, module: nn.Module, query: Tensor) -> Tensor | None:
    """The mask as eager attention adds it to the scores. None stands for a plain causal mask."""
    if mask is None and getattr(module, "is_causal", True):
        size = query.shape[2]
        mask = torch.ones(size, size, dtype=torch.bool, device=query.device).tril()
    if mask is None or mask.dtype != torch.bool:
        return mask
    lowest = torch.finfo(query.dtype).min
    return torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill(~mask, lowest)
