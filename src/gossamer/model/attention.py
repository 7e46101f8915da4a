"""Reading and editing inside attention: queries, keys, values, scores and the pattern.

No module boundary shows these, so while such a site is asked for, and only then, attention runs through a function of
ours. It calls the function that was in use before (so the rest of the network computes exactly what it did), and works
out the pattern beside it with the model's own eager attention, whose softmax shows the scores. Where an edit changed
the pattern of a head and query, the output there is `pattern @ v`; elsewhere it stays as it was, to the bit.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from gossamer.errors import UsageError
from gossamer.model.anatomy import Anatomy
from gossamer.model.editing import Pass, carried, current, kept
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
            f"q, k, v, scores and pattern cannot be read under {original!r} attention; "
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
            module = run.anatomy.part(layer, "attention")
            before = module.__dict__.get(name)
            setattr(module, name, partial(_method, run, layer, getattr(module, name)))
            stack.callback(partial(setattr, module, name, before) if before else partial(delattr, module, name))
        yield


def _method(
    run: Pass, layer: int, method: Callable[..., Any], query: Tensor, key: Tensor, value: Tensor, mask: Any = None
) -> Any:
    """In place of an attention method that returns its pattern (heads before positions, as it takes them)."""
    if not run.running:
        return method(query, key, value, mask)
    query, key, value = _visit_qkv(run, layer, query, key, value)
    out, pattern = method(query, key, value, mask)
    edited = _visit_pattern(run, layer, pattern, lambda: method(query, key, value, mask)[1])
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
    if not run.attention & {Site("scores", layer), Site("pattern", layer)}:
        return out, None
    additive = _additive(mask, module, query, key)

    def eager_pattern() -> Tensor:
        with _Double():
            return eager(module, query, key, value, additive, **settings)[1]

    pattern = eager_pattern()
    edited = _visit_pattern(run, layer, pattern, eager_pattern, getattr(module, "sinks", None))
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


def _visit_pattern(
    run: Pass, layer: int, pattern: Tensor, again: Callable[[], Tensor], sinks: Tensor | None = None
) -> Tensor:
    """The pattern after edits of scores and pattern; `again` computes the unedited one once more."""
    site = Site("scores", layer)
    if site in run.attention:
        with _Scores(run, site, sinks):
            after_scores = again()
        pattern = after_scores if site in run.edits else pattern
    site = Site("pattern", layer)
    return run.visit(site, pattern) if site in run.attention else pattern


_SOFTMAX = (torch.softmax, torch.nn.functional.softmax, Tensor.softmax)


class _Double(TorchFunctionMode):
    """Softmax of float64 in float64: eager attention asks for float32, where the kernel in use computes in double."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in _SOFTMAX and args[0].dtype == torch.float64:
            kwargs.pop("dtype", None)
        return func(*args, **kwargs)


class _Scores(TorchFunctionMode):
    """While it is active, what goes into a softmax is visited as the scores of one layer."""

    def __init__(self, run: Pass, site: Site, sinks: Tensor | None) -> None:
        super().__init__()
        self.run, self.site, self.sinks = run, site, sinks

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _SOFTMAX or not self.run.running:
            return func(*args, **(kwargs or {}))
        return func(self._visited(args[0]), *args[1:], **(kwargs or {}))

    def _visited(self, scores: Tensor) -> Tensor:
        if self.sinks is None:
            return self._masked(scores)
        # A last column holds each head's sink, and each row was shifted by its largest entry.
        sinks = self.sinks.to(scores).view(1, -1, 1, 1)
        shift = sinks - scores[..., -1:]
        shifted = scores[..., :-1]
        raw = shifted + shift
        edited = carried(shifted, raw, self._masked(raw), lambda after: after - shift)
        return torch.cat([edited, scores[..., -1:]], dim=-1)

    def _masked(self, scores: Tensor) -> Tensor:
        lowest = torch.finfo(scores.dtype).min
        # Masks add the lowest number of the type, or -1e9 in compiled programs.
        masked = scores < max(lowest / 4, -1e8)
        return self.run.visit(self.site, scores.masked_fill(masked, lowest)).masked_fill(masked, lowest)


def _remixed(out: Tensor, pattern: Tensor, edited: Tensor, value: Tensor) -> Tensor:
    """Head outputs (batch head pos d_head) under an edited pattern; value heads are repeated for grouped queries."""
    if edited is pattern:
        return out
    value = value.repeat_interleave(pattern.shape[1] // value.shape[1], dim=1)
    return kept(out, edited @ value, (edited != pattern).any(dim=-1, keepdim=True))


def _additive(mask: Tensor | None, module: nn.Module, query: Tensor, key: Tensor) -> Tensor | None:
    """The mask as eager attention adds it to the scores. None stands for a plain causal mask."""
    if mask is None and getattr(module, "is_causal", True):
        queries, keys = query.shape[2], key.shape[2]
        mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
    if mask is None or mask.dtype != torch.bool:
        return mask
    lowest = torch.finfo(query.dtype).min
    return torch.zeros(mask.shape, dtype=query.dtype, device=query.device).masked_fill(~mask, lowest)
