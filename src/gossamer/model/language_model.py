"""A Hugging Face language model that can be read and edited at named sites."""

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gossamer.errors import UsageError
from gossamer.model import attention, generation, tokenizing, weights
from gossamer.model.anatomy import Anatomy
from gossamer.model.direct_calls import DirectCalls
from gossamer.model.editing import Complete, Edit, Pass, evaluating
from gossamer.model.family import Family
from gossamer.model.generation import GREEDY, Generation, Sampling, Step
from gossamer.model.head import Head
from gossamer.model.inputs import gathered, model_inputs
from gossamer.model.kinds import SITE_KINDS, named
from gossamer.model.past import Past
from gossamer.model.site import BySite, Site, SiteLike, SiteMapping, by_site
from gossamer.model.sizes import Sizes
from gossamer.model.weights import AttentionWeights
from gossamer.tokens import Tokens

# The edits of this thread, outermost first, with the model each belongs to.
_edits: ContextVar[tuple[tuple["LanguageModel", Mapping[Site, Edit]], ...]] = ContextVar("gossamer_edits", default=())


class LanguageModel(Sizes):
    """A causal language model, used as it is: its own code runs, its weights are neither copied nor folded.

    Every pass but those of `generate` runs without a key-value cache, and all run in evaluation mode (modules found in
    training mode are put back afterwards); `requires_grad` of the weights is never touched, and gradients are kept or
    not as the caller's `torch.no_grad` says. Hooks on layers exist only while a pass runs; a compiled model runs
    uncompiled for that long. Passes from several threads take turns, and each thread has its own edits.

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
        self.head = Head(self.anatomy)
        self._lock = threading.RLock()
        self._direct_calls = DirectCalls(hf, self.anatomy)

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process of ours: without locks, and with no edit open.

        Raises:
            UsageError: edits are open here, which would not apply there.
        """
        if self._active():
            raise UsageError(f"{self.name}: a model without open edits expected in another process; leave `edit` first")
        return LanguageModel, (self.hf, self.tokenizer, self.name, self.family)

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
            source: a Hugging Face id, a local folder of a model or of a PEFT adapter (whose base model it names), a
                GGUF file, whose weights are dequantised, `bundled:NAME`, or a loaded model, which is used as it is
                (that inside a PeftModel, with its adapters).
            tokenizer: instead of the one that comes with `source`.
            dtype: default: the checkpoint's own; half precision becomes float32 on a CPU without instructions for it
                (float16 on all, bfloat16 on older ones), where it is several times as slow in half the memory.
            device: default: CUDA if there is any, else the CPU. Apple's MPS is refused: it has no float64, in which
                sums are taken.
            device_map: how to spread the model over devices, as accelerate takes it.
            family: the facts of an architecture gossamer does not know.

        Raises:
            UsageError: there is no such model, it has no tokenizer, or its architecture is unknown.
            GossamerError: its files are damaged, or the checks fail.
        """
        from gossamer.model.loading import load

        return load(source, tokenizer, dtype, device, device_map, family)

    @property
    def has_bos_by_default(self) -> bool:
        """Whether the tokenizer itself puts a BOS token first."""
        return tokenizing.adds_bos(self._tokenizer())

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

    def decode(self, tokens: Tokens) -> list[str]:
        """The text of each row, without padding and special tokens."""
        rows = [ids[mask].tolist() for ids, mask in zip(tokens.ids, tokens.mask, strict=True)]
        return [str(self._tokenizer().decode(row, skip_special_tokens=True)) for row in rows]

    def logits(
        self, tokens: Tokens, *, at: Int[Tensor, "batch"] | None = None, ids: Int[Tensor, "..."] | None = None
    ) -> Float[Tensor, "..."]:
        """Logits at all positions (batch pos vocab), or at one position a row (batch vocab).

        With `at` the head runs on those positions only; logits of the others never exist. With `ids`, of shape (n,) or
        (batch, n), logits of those tokens alone (batch [pos] n), in float32 also of a model in half precision; the
        others never exist.

        Raises:
            UsageError: the tokens do not fit the model, or `ids` do not fit the tokens.
        """
        return self._logits(self._hidden(Pass(self.anatomy, self._active()), tokens), at, ids)

    def capture(
        self,
        tokens: Tokens,
        sites: Iterable[SiteLike],
        *,
        start: tuple[SiteLike, Float[Tensor, "batch pos d_model"]] | None = None,
        past: Past | None = None,
    ) -> BySite[Tensor]:
        """Values of `sites` (shapes: see :class:`Site`) after any active edits, in the order asked for.

        The pass ends at the last of them: no later layer and no head runs. With `start`, a site and the residual stream
        there, it begins after that site, as :meth:`resume` does. With `past` it runs on the positions whose keys and
        values `past` does not hold, and adds theirs to it: values, and the stream of `start`, are of these positions.

        Raises:
            UsageError: the model lacks one of the sites, none is given, the tokens do not fit, or `start` is no
                residual stream before all of the sites.
            GossamerError: a site was never reached, as after modules were replaced.
        """
        wanted = list(map(Site.of, sites))
        if not wanted:
            raise UsageError("no site to capture; give at least one")
        for site in wanted:
            self.anatomy.check(site)
        if start is None:
            run = Pass(self.anatomy, self._active(), wanted)
        else:
            first = Site.of(start[0])
            entry = self._entry(first, start[1], tokens, 0 if past is None else past.length)
            if early := [site for site in wanted if site <= first]:
                raise UsageError(f"capture from {first}: sites after it expected, found {early[0]}; start earlier")
            run = Pass(self.anatomy, self._active(after=first), wanted, entry=entry)
        with contextlib.suppress(Complete):
            self._hidden(run, tokens, past)
        return BySite((site, run.read[site]) for site in wanted)

    @contextlib.contextmanager
    def edit(self, edits: SiteMapping[Edit], *, direct: bool = False) -> Iterator[None]:
        """Inside, every `logits`, `capture` and `resume` replaces the value of each site by `edits[site](value)`.

        Edits nest: at one site the outer is applied first. An edit returns a new tensor of the same shape and must not
        change the one it is given; another dtype or device is converted back. A NaN is passed on: look for it with
        `gossamer.errors.require_finite` where it may arise. An edit may run the model itself:
        that pass sees no edits. The transformers model `hf` itself does not see them either: while edits are open,
        calling it or its `generate` is refused. With `direct` it does: calls of `hf` from any thread, as a pipeline or
        an evaluation harness makes them, see the edits that are open now, and positions count from each row's start.

        Raises:
            UsageError: the model lacks one of the sites; on a call of `hf` inside, unless it is `direct`.
            GossamerError: on a pass, when an edit returned another shape or was never reached (the site is named).
        """
        chosen = by_site(edits)
        for site in chosen:
            self.anatomy.check(site)
        token = _edits.set((*_edits.get(), (self, chosen)))
        calls = self._direct_calls.edited(self._active()) if direct else self._direct_calls.refused()
        try:
            with calls:
                yield
        finally:
            _edits.reset(token)

    @contextlib.contextmanager
    def freeze(self, tokens: Tokens, *, patterns: bool = True, norms: bool = True) -> Iterator[None]:
        """Inside, attention patterns and norm scales are those of a pass over `tokens` now, constant for gradients.

        The model is then linear between MLPs (affine with its biases): attention only mixes values, and a norm only
        centres and multiplies. (Where values are clipped, as by OLMo's clip_qkv, they still are.) On the same tokens
        nothing changes as long as nothing else is edited. Edits that are open here shape the frozen values; passes
        inside must have the batch and length of `tokens`. Memory: the patterns of all layers, batch x heads x pos x
        pos each.

        Raises:
            UsageError: the tokens do not fit the model.
            GossamerError: on a pass inside, when it has another shape.
        """
        kinds = [
            kind for kind in self.kinds if (patterns and kind == "pattern") or (norms and SITE_KINDS[kind].norm_scale)
        ]
        sites = [site for kind in kinds for site in self.sites(kind)]
        with torch.no_grad():
            frozen = self.capture(tokens, sites) if sites else {}
        with self.edit({site: partial(_instead, value) for site, value in frozen.items()}):
            yield

    def resume(
        self,
        site: SiteLike,
        x: Float[Tensor, "batch pos d_model"],
        tokens: Tokens,
        *,
        at: Int[Tensor, "batch"] | None = None,
        ids: Int[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "..."]:
        """Logits when the residual stream at `site` is `x`: only the layers after the site run.

        `tokens` give the mask and the positions; active edits at later sites apply, those at `site` and before do not.
        `at` and `ids` choose positions and tokens as in `logits`. Gradients flow to `x`.

        Raises:
            UsageError: the model cannot be resumed from `site`, or `x` or the tokens have another shape.
        """
        site = Site.of(site)
        entry, edits = self._entry(site, x, tokens), self._active(after=site)
        if entry[0] == self.n_layers and not edits:
            x = x if at is None else gathered(x, at)
            return self._logits(self.anatomy.norm(x.to(self.dtype)), None, ids)
        return self._logits(self._hidden(Pass(self.anatomy, edits, entry=entry), tokens), at, ids)

    def unembed(
        self, x: Float[Tensor, "... d_model"], ids: Int[Tensor, "..."] | None = None
    ) -> Float[Tensor, "... vocab"]:
        """Logits of a residual stream: final norm, head, and the cap on logits if the family has one (logit lens).

        With `ids`, those of these tokens alone, as in `logits`. It is no pass of the model: edits do not apply.
        """
        return self._logits(self.anatomy.norm(x.to(self.dtype)), None, ids)

    def unembedding_rows(self, ids: Int[Tensor, "ids"]) -> Float[Tensor, "ids d_model"]:
        """Rows of the unembedding matrix: the directions that raise these tokens' logits (after the final norm).

        Raises:
            UsageError: the head is no plain matrix, as with an adapter on it.
        """
        return self.head.rows(ids)[0]

    def attention_weights(self, layer: int) -> AttentionWeights:
        """W_Q, W_K, W_V, W_O and biases of one layer by head, whatever the family's way of storing them.

        Raises:
            UsageError: the model has no such layer, or its family does not say where they are.
        """
        self.anatomy.check(Site("z", layer))
        return weights.attention_weights(self.anatomy, layer)

    def stream(
        self,
        prompts: Tokens | Sequence[str],
        *,
        max_new_tokens: int,
        sampling: Sampling = GREEDY,
        stop: Sequence[int] | None = None,
    ) -> Iterator[Step]:
        """The tokens of `generate` as they come, with the logits they were chosen from.

        The edits are those that are open when it is called, also for steps that are taken later.
        """
        if max_new_tokens < 1:
            raise UsageError(f"max_new_tokens: expected at least 1, found {max_new_tokens}")
        tokens = generation.left_padded(prompts if isinstance(prompts, Tokens) else self.tokenize(prompts))
        # The last new token is never read.
        if (read := tokens.ids.shape[1] + max_new_tokens - 1) > self.n_context:
            raise UsageError(
                f"expected prompts and all new tokens but the last to be at most {self.n_context}, found {read}"
            )
        edits, past = self._active(), Past()

        @torch.no_grad()
        def next_logits(so_far: Tokens) -> Float[Tensor, "batch vocab"]:
            return self.head(self._hidden(Pass(self.anatomy, edits), so_far, past)[:, -1])

        padding = int(getattr(self.tokenizer, "pad_token_id", None) or 0)
        ends = generation.ends(self.hf, self.tokenizer) if stop is None else stop
        return generation.steps(next_logits, tokens, max_new_tokens, sampling, ends, padding)

    def generate(
        self,
        prompts: Tokens | Sequence[str],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | torch.Generator = 0,
        stop: Sequence[int] | None = None,
    ) -> Generation:
        """Continue prompts under the edits that are open, with a key-value cache.

        A step runs the model on the new tokens only: an edit is given the prompts once, then one position at a time
        (at `k` and `v` all positions so far; at `scores` and `pattern` one row of queries). `gossamer.model.positions`
        says which positions these are, so that an edit that minds where it is acts as in one pass over the whole text.
        Edits that let a position depend on later ones have no such meaning. Temperature 0 takes the most likely token;
        else the same seed gives the same text. Memory: keys and values of all layers.

        Args:
            prompts: texts, or tokens padded on either side.
            max_new_tokens: at most so many for each row.
            temperature, top_k, top_p: see :class:`gossamer.model.generation.Sampling`.
            seed: of the draws, or a generator on the CPU.
            stop: tokens that end a row; default: the model's and tokenizer's end of text.

        Raises:
            UsageError: the prompts do not fit, are too long with the new tokens, or the model keeps no cache.
        """
        tokens = generation.left_padded(prompts if isinstance(prompts, Tokens) else self.tokenize(prompts))
        sampling = Sampling(temperature, top_k, top_p, seed)
        found = list(self.stream(tokens, max_new_tokens=max_new_tokens, sampling=sampling, stop=stop))
        ids, active = (torch.stack([getattr(step, part) for step in found], dim=1) for part in ("ids", "active"))
        return Generation(tokens, Tokens(ids, active))

    def _entry(self, site: Site, x: Tensor, tokens: Tokens, past: int = 0) -> tuple[int, Tensor]:
        """The layer that reads the stream `x` of `site`, and the stream."""
        self.anatomy.check(site)
        if site.layer is None or not site.facts.resumable:
            raise UsageError(
                f"{site}: expected {' or '.join(named(resumable=True))} to resume from; "
                f"the layer's own start is resid_pre"
            )
        expected = (len(tokens), tokens.ids.shape[1] - past, self.d_model)
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

    def _hidden(self, run: Pass, tokens: Tokens, past: Past | None = None) -> Float[Tensor, "batch pos d_model"]:
        """The stream after the final norm, of positions that `past` does not hold yet."""
        inputs = model_inputs(
            tokens,
            0 if past is None else past.length,
            longest=self.n_context,
            d_vocab=self.d_vocab,
            name=self.name,
        )
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        run.mask = tokens.mask
        with self._lock, evaluating(self.hf):
            # An edit that runs this model sees none of the edits it is one of.
            token = _edits.set(tuple(entry for entry in _edits.get() if entry[0] is not self))
            try:
                with run.installed(), attention.opened(run):
                    cache = None if past is None else past.cache
                    output = self.anatomy.base(**inputs, past_key_values=cache, use_cache=past is not None)
                run.require_reached()
            finally:
                _edits.reset(token)
        if past is not None and past.length != tokens.ids.shape[1]:
            raise UsageError(f"{self.name}: a {self.family.name} keeps no keys and values, so it cannot generate")
        return output.last_hidden_state

    def _logits(self, hidden: Tensor, at: Int[Tensor, "batch"] | None, ids: Tensor | None) -> Tensor:
        hidden = hidden if at is None else gathered(hidden, at)
        return self.head(hidden) if ids is None else self.head.of(hidden, ids)


def _instead(frozen: Tensor, value: Tensor) -> Tensor:
    return frozen
