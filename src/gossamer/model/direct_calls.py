"""Calls of the transformers model itself while edits are open: refused, or passes with these edits."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from gossamer.errors import UsageError
from gossamer.model import attention
from gossamer.model.anatomy import Anatomy
from gossamer.model.editing import Edit, Pass, current, uncompiled
from gossamer.model.site import Site


class DirectCalls:
    """What becomes of calls of the transformers model itself, from any thread, while edits are open."""

    def __init__(self, hf: nn.Module, anatomy: Anatomy) -> None:
        self._hf, self._anatomy = hf, anatomy
        self._lock, self._open = threading.Lock(), 0
        self._installed = contextlib.ExitStack()

    @contextlib.contextmanager
    def refused(self) -> Iterator[None]:
        """Inside, only passes of ours run."""
        with self._lock:
            self._open += 1
            if self._open == 1:
                ends = (self._hf, self._anatomy.base)
                self._installed.enter_context(uncompiled(ends))
                for module in ends:
                    self._installed.callback(module.register_forward_pre_hook(self._refuse).remove)
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                if not self._open:
                    self._installed.close()

    @contextlib.contextmanager
    def edited(self, edits: Mapping[Site, list[Edit]]) -> Iterator[None]:
        """Inside, a call of the transformers model is a pass with these edits; a pass of ours has its own."""
        calls = threading.local()

        def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            call = contextlib.ExitStack()
            calls.open = [*getattr(calls, "open", ()), (call, None)]
            inside = current()
            if inside is not None and inside.anatomy is self._anatomy:
                return
            run = Pass(self._anatomy, edits)
            run.mask = _mask(args, kwargs)
            calls.open[-1] = (call, run)
            call.enter_context(run.installed())
            call.enter_context(attention.opened(run))

        def end(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            # Another hook may have refused the call before it began.
            if not getattr(calls, "open", None):
                return
            call, run = calls.open.pop()
            call.close()
            # After a call that failed there is no output.
            if run is not None and output is not None:
                run.require_reached()

        base = self._anatomy.base
        with contextlib.ExitStack() as hooks:
            hooks.enter_context(uncompiled((self._hf, base)))
            hooks.callback(base.register_forward_pre_hook(begin, with_kwargs=True).remove)
            hooks.callback(base.register_forward_hook(end, always_call=True).remove)
            yield

    def _refuse(self, module: nn.Module, args: object) -> None:
        run = current()
        if module is self._hf or run is None or run.started or run.anatomy is not self._anatomy:
            raise UsageError(
                "the transformers model was called by itself while edits are open, which would not apply to it: "
                "call LanguageModel.generate, logits, capture or resume inside `edit`, open them with direct=True, or "
                "call the model itself outside"
            )
        run.started = True


def _mask(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bool[Tensor, "batch pos"]:
    """Which of all positions so far, those of the cache first, are real tokens."""
    given = kwargs.get("input_ids", args[0] if args else None)
    given = kwargs.get("inputs_embeds") if given is None else given
    if given is None:
        raise UsageError("edits: a call with input_ids or inputs_embeds expected, found neither")
    cache = kwargs.get("past_key_values")
    shape = (len(given), given.shape[1] + (0 if cache is None else cache.get_seq_length()))
    mask = kwargs.get("attention_mask")
    if mask is None:
        return torch.ones(shape, dtype=torch.bool)
    if not isinstance(mask, Tensor) or mask.shape != shape:
        found = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise UsageError(
            f"edits: an attention mask of shape {shape}, past tokens included, expected, found {found}; "
            "generate without a static cache"
        )
    return mask.bool()
