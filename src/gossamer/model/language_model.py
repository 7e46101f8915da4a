"""A Hugging Face language model that can be read and edited at named sites."""

import contextlib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import align_module_device
from jaxtyping import Float, Int
from torch import Tensor, nn

from gossamer.errors import UsageError
from gossamer.model import attention, tokenizing
from gossamer.model.editing import Complete, DirectCalls, Edit, Pass
from gossamer.model.family import Anatomy, Family
from gossamer.model.site import Site
from gossamer.tokens import Tokens

# The edits of this thread, outermost first, with the model each belongs to.
_edits: ContextVar[tuple[tuple["LanguageModel", Mapping[Site, Edit]], ...]] = ContextVar("gossamer_edits", default=())

# Names of folders that say nothing of the model in them.
_NAMELESS = re.compile(r"hf|models?|weights|final|last|best|checkpoint(-\d+)?|[0-9a-f]{40}")


class LanguageModel:
    """A causal language model, used as it is: its own code runs, its weights are neither copied nor folded.

    Every pass runs without a key-value cache and in evaluation mode (modules found in training mode are put back
    afterwards); `requires_grad` of the weights is never touched, and gradients are kept or not as the caller's
    `torch.no_grad` says. Hooks on layers exist only while a pass runs; a compiled model runs uncompiled for that long.
    Passes from several threads take turns, and each thread has its own edits.

    Attributes:
        hf: the transformers model.
        tokenizer: its tokenizer, or None.
        name: where it came from.
        family: the facts of its architecture.
    """

    def __init__(self, hf: nn.Module, tokenizer: Any, name: str, family: Family) -> None:
        """Use :meth:`load`, which also checks that the family's facts hold."""
        self.hf, self.tokenizer, self.name, self.family = hf, tokenizer, name, family
        self.anatomy = Anatomy(family, hf)
        self._lock = threading.RLock()
        self._direct_calls = DirectCalls(hf, self.anatomy)

    @classmethod
    def load(
        cls,
        source: str | Path | nn.Module,
        *,
        tokenizer: Any = None,
        dtype: torch.dtype | None = None,
        device: str | torch.device | None = None,
        device_map: Any = None,
        family: Family | None = None,
    ) -> "LanguageModel":
        """Load a model and check on a few tokens that what gossamer believes of its architecture is true of it.

        Args:
            source: a Hugging Face id, a local folder, `bundled:NAME`, or a loaded model, which is used as it is.
            tokenizer: instead of the one that comes with `source`.
            dtype: default: the checkpoint's own, except float16 on a CPU, which becomes float32.
            device: default: CUDA, else Apple's MPS, else the CPU.
            device_map: how to spread the model over devices, as accelerate takes it.
            family: the facts of an architecture gossamer does not know.

        Raises:
            UsageError: there is no such model, it has no tokenizer, or its architecture is unknown.
            GossamerError: its files are damaged, or the checks fail.
        """
        from gossamer.model.loading import load

        return load(source, tokenizer, dtype, device, device_map, family)

    @property
    def title(self) -> str:
        """The name for readers, without this machine's paths.

        Of a local model its folder's name, with that of the folder above where it says nothing ("hf", "checkpoint-9");
        of a snapshot that the hub's client keeps, the model's id.
        """
        if not Path(self.name).is_dir():
            return self.name
        *_, cached, above, folder = ("", "", *Path(self.name).resolve().parts)
        if above == "snapshots" and cached.startswith("models--"):
            return cached.removeprefix("models--").replace("--", "/")
        return f"{above}/{folder}" if _NAMELESS.fullmatch(folder.lower()) else folder

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.anatomy.layers)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.anatomy.config.hidden_size)

    @property
    def n_heads(self) -> int:
        """Query heads of a layer."""
        return int(self.anatomy.config.num_attention_heads)

    @property
    def n_kv_heads(self) -> int:
        """Key and value heads of a layer; fewer than `n_heads` with grouped queries."""
        return int(getattr(self.anatomy.config, "num_key_value_heads", None) or self.n_heads)

    @property
    def d_head(self) -> int:
        """Width of a head."""
        return int(getattr(self.anatomy.config, "head_dim", None) or self.d_model // self.n_heads)

    @property
    def d_vocab(self) -> int:
        """Number of logits: the rows of the unembedding, which may be more than the tokenizer has tokens."""
        return int(self.anatomy.config.vocab_size)

    @property
    def n_context(self) -> int:
        """Longest prompt in tokens."""
        return int(self.anatomy.config.max_position_embeddings)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return next(self.anatomy.layers.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where token ids go in."""
        embedding = self.anatomy.base.get_input_embeddings()  # type: ignore[operator]
        if embedding.weight.device.type == "meta":
            return torch.device(embedding._hf_hook.execution_device)
        return torch.device(embedding.weight.device)

    @property
    def has_bos_by_default(self) -> bool:
        """Whether the tokenizer itself puts a BOS token first."""
        return tokenizing.adds_bos(self._tokenizer())

    def sites(self, kind: str) -> list[Site]:
        """All sites of one kind, in execution order."""
        sites = [Site("embed")] if kind == "embed" else [Site(kind, layer) for layer in range(self.n_layers)]
        for site in sites:
            self.anatomy.check(site)
        return sites

    def width(self, site: Site) -> int:
        """Size of the last axis at `site`.

        Raises:
            UsageError: the model has no such site, or it is a pattern, whose width is the prompt's length.
        """
        self.anatomy.check(site)
        if site.kind == "pattern":
            raise UsageError(f"{site} has no fixed width: its last axis is the position attended to")
        if site.kind == "z":
            return self.n_heads * self.d_head
        return self.d_head if site.kind in ("q", "k", "v") else self.d_model

    def tokenize(self, texts: Sequence[str], *, bos: bool | None = None, side: tokenizing.Side = "right") -> Tokens:
        """Token ids of `texts`, padded on `side`, on the CPU.

        `bos=True` gives exactly one BOS token (none is added to a text that writes it out), False none, and None what
        the tokenizer does by itself.

        Raises:
            UsageError: no texts, an empty one, no tokenizer, or a BOS token that does not exist.
        """
        return tokenizing.encode(self._tokenizer(), texts, bos, side)

    def word(self, token_id: int) -> str:
        """The text of one token, with its leading space."""
        return tokenizing.word(self._tokenizer(), token_id)

    def logits(self, tokens: Tokens, *, at: Int[Tensor, "batch"] | None = None) -> Float[Tensor, "..."]:
        """Logits at all positions (batch pos vocab), or at one position a row (batch vocab).

        With `at` the head runs on those positions only; logits of the others never exist.

        Raises:
            UsageError: the tokens do not fit the model.
        """
        return self._head(self._hidden(Pass(self.anatomy, self._active()), tokens), at)

    def capture(
        self,
        tokens: Tokens,
        sites: Iterable[Site],
        *,
        start: tuple[Site, Float[Tensor, "batch pos d_model"]] | None = None,
    ) -> dict[Site, Tensor]:
        """Values of `sites` (shapes: see :class:`Site`) after any active edits, in the order asked for.

        The pass ends at the last of them: no later layer and no head runs. With `start`, a site and the residual stream
        there, it begins after that site, as :meth:`resume` does.

        Raises:
            UsageError: the model lacks one of the sites, none is given, the tokens do not fit, or `start` is no
                residual stream before all of the sites.
            GossamerError: a site was never reached, as after modules were replaced.
        """
        sites = list(sites)
        if not sites:
            raise UsageError("no site to capture; give at least one")
        for site in sites:
            self.anatomy.check(site)
        if start is None:
            run = Pass(self.anatomy, self._active(), sites)
        else:
            entry = self._entry(*start, tokens)
            if early := [site for site in sites if site <= start[0]]:
                raise UsageError(f"capture from {start[0]}: sites after it expected, found {early[0]}; start earlier")
            run = Pass(self.anatomy, self._active(after=start[0]), sites, entry=entry)
        with contextlib.suppress(Complete):
            self._hidden(run, tokens)
        return {site: run.read[site] for site in sites}

    @contextlib.contextmanager
    def edit(self, edits: Mapping[Site, Edit]) -> Iterator[None]:
        """Inside, every `logits`, `capture` and `resume` replaces the value of each site by `edits[site](value)`.

        Edits nest: at one site the outer is applied first. An edit returns a new tensor of the same shape and must not
        change the one it is given; another dtype or device is converted back. A NaN is passed on: look for it with
        `gossamer.errors.require_finite` where it may arise. An edit may run the model itself:
        that pass sees no edits. The transformers model `hf` itself does not see them either: while edits are open,
        calling it or its `generate` is refused.

        Raises:
            UsageError: the model lacks one of the sites; on a call of `hf` inside.
            GossamerError: on a pass, when an edit returned another shape or was never reached (the site is named).
        """
        for site in edits:
            self.anatomy.check(site)
        token = _edits.set((*_edits.get(), (self, edits)))
        try:
            with self._direct_calls.refused():
                yield
        finally:
            _edits.reset(token)

    def resume(
        self,
        site: Site,
        x: Float[Tensor, "batch pos d_model"],
        tokens: Tokens,
        *,
        at: Int[Tensor, "batch"] | None = None,
    ) -> Float[Tensor, "..."]:
        """Logits when the residual stream at `site` is `x`: only the layers after the site run.

        `tokens` give the mask and the positions; active edits at later sites apply, those at `site` and before do not.
        Gradients flow to `x`.

        Raises:
            UsageError: `site` is no resid_pre or resid_post of this model, or `x` or the tokens have another shape.
        """
        entry = self._entry(site, x, tokens)
        if entry[0] == self.n_layers:
            return self.unembed(x if at is None else _gather(x, at))
        run = Pass(self.anatomy, self._active(after=site), entry=entry)
        return self._head(self._hidden(run, tokens), at)

    def unembed(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... vocab"]:
        """Logits of a residual stream: final norm, head, and the cap on logits if the family has one (logit lens)."""
        return self._head(self.anatomy.norm(x.to(self.dtype)), None)

    def unembedding_rows(self, ids: Int[Tensor, "ids"]) -> Float[Tensor, "ids d_model"]:
        """Rows of the unembedding matrix: the directions that raise these tokens' logits (after the final norm)."""
        # Weights that accelerate keeps elsewhere are brought in for the moment of reading.
        with align_module_device(self.anatomy.head):
            weight: Tensor = self.anatomy.head.weight  # type: ignore[assignment]
            return weight[ids.to(weight.device)]

    def _entry(self, site: Site, x: Tensor, tokens: Tokens) -> tuple[int, Tensor]:
        """The layer that reads the stream `x` of `site`, and the stream."""
        self.anatomy.check(site)
        if site.layer is None or site.kind not in ("resid_pre", "resid_post"):
            raise UsageError(
                f"{site}: expected resid_pre or resid_post to resume from; the layer's own start is resid_pre"
            )
        expected = (*tokens.ids.shape, self.d_model)
        if x.shape != expected:
            raise UsageError(f"resume from {site}: expected a stream of shape {expected}, found {tuple(x.shape)}")
        return site.layer + (site.kind == "resid_post"), x

    def _tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise UsageError(f"{self.name} was loaded without a tokenizer; give LanguageModel.load a tokenizer=")
        return self.tokenizer

    def _active(self, after: Site | None = None) -> dict[Site, list[Edit]]:
        active: dict[Site, list[Edit]] = {}
        for model, edits in _edits.get():
            for site, edit in edits.items():
                if model is self and (after is None or site > after):
                    active.setdefault(site, []).append(edit)
        return active

    def _hidden(self, run: Pass, tokens: Tokens) -> Float[Tensor, "batch pos d_model"]:
        """The stream after the final norm."""
        inputs = self._inputs(tokens)
        with self._lock, evaluating(self.hf):
            # An edit that runs this model sees none of the edits it is one of.
            token = _edits.set(tuple(entry for entry in _edits.get() if entry[0] is not self))
            try:
                with run.installed(), attention.opened(run):
                    hidden = self.anatomy.base(**inputs, use_cache=False).last_hidden_state
                run.require_reached()
                return hidden
            finally:
                _edits.reset(token)

    def _head(self, hidden: Tensor, at: Int[Tensor, "batch"] | None) -> Tensor:
        logits = self.anatomy.head(hidden if at is None else _gather(hidden, at))
        cap = self.anatomy.softcap
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def _inputs(self, tokens: Tokens) -> dict[str, Tensor]:
        if tokens.ids.dim() != 2 or tokens.mask.shape != tokens.ids.shape or tokens.ids.numel() == 0:
            raise UsageError(
                f"expected ids and mask of one shape (batch pos), found {tuple(tokens.ids.shape)} "
                f"and {tuple(tokens.mask.shape)}"
            )
        width = tokens.ids.shape[1]
        if width > self.n_context:
            raise UsageError(f"expected at most {self.n_context} tokens a prompt, found {width}; shorten the prompts")
        shortest = int(tokens.lengths.min())
        if shortest == 0:
            raise UsageError("expected at least one token in every row, found a row of padding only")
        ids = tokens.ids.masked_fill(~tokens.mask, 0)
        lowest, highest = (int(end) for end in ids.aminmax())
        if lowest < 0 or highest >= self.d_vocab:
            raise UsageError(
                f"expected token ids from 0 to {self.d_vocab - 1}, found {lowest if lowest < 0 else highest}; "
                f"use the tokenizer of {self.name}"
            )
        if shortest == width:
            return {"input_ids": ids.to(self.device)}
        # Positions count real tokens, so that padding on the left does not move them.
        positions = (tokens.mask.cumsum(dim=1) - 1).clamp(min=0)
        inputs = {"input_ids": ids, "attention_mask": tokens.mask.long(), "position_ids": positions}
        return {name: value.to(self.device) for name, value in inputs.items()}


def _gather(hidden: Tensor, at: Tensor) -> Float[Tensor, "batch d_model"]:
    if at.shape != hidden.shape[:1]:
        raise UsageError(f"at: expected one position a row, shape {(len(hidden),)}, found {tuple(at.shape)}")
    return hidden[torch.arange(len(hidden), device=hidden.device), at.to(hidden.device)]


@contextlib.contextmanager
def evaluating(hf: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout), and afterwards the mode each module was found in."""
    training = [module for module in hf.modules() if module.training] if hf.training else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
