"""The model with dictionaries in its residual stream: a mask over latents is its only free argument."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import embedding, pad

from gossamer.batching import in_batches
from gossamer.circuits.ablation import Ablation, slot_rows
from gossamer.circuits.nodes import Nodes, SiteNodes
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.task import Examples
from gossamer.tokens import Tokens

Rest = Literal["ablated", "kept"]
# Prompts of one pass through whole dictionaries, at most: all latents of all sites stand in memory at once, where a
# pass over candidates holds few columns. With more, finding the candidates would take more memory than the search.
WHOLE_BATCH = 16


@dataclass(frozen=True)
class Batch:
    """Rows of the examples as one network pass sees them, trimmed to their longest prompt."""

    tokens: Tokens
    roles: Int[Tensor, "batch pos"]
    slots: Int[Tensor, "batch pos"]
    end: Int[Tensor, "batch"]
    stream: Float[Tensor, "batch pos d"]
    counterfactual: Mapping[Site, Float[Tensor, "batch pos d"]]

    @property
    def through(self) -> Bool[Tensor, "batch pos 1"]:
        """Tokens whose stream is left as it is (BOS, padding)."""
        return (self.roles < 0).unsqueeze(-1)


@dataclass(frozen=True)
class _SitePlan:
    """One site's share of a splice: its columns, and the constants that all other latents are folded into."""

    dictionary: Dictionary
    nodes: SiteNodes
    ablated: Float[Tensor, "slot column"] | None
    constant: Float[Tensor, "slot d"] | None


class Splice:
    """Dictionaries replace the stream at their sites; masked latents move to their ablation value.

    With latents a, ablation values m and mask M, the stream at a site becomes ``dec(m + M * (a - m))`` plus the mean
    error (errors="mean"), nothing ("drop") or the exact error of the present stream ("keep"). Every later dictionary
    encodes the already modified stream; BOS and padding pass through. Latents that are no node have M = 0
    (rest="ablated": folded into one constant a slot, so that only the nodes' columns are encoded and decoded, with
    the same result) or M = 1 (rest="kept": the full encoder runs). The layers before the first dictionary run once.

    Source: masked replacement of the residual stream by sparse autoencoders, Caples et al. 2025.
    Memory: prompts x positions x d_model for the cached stream; positions x columns a site for each prompt in a batch.
    """

    def __init__(
        self,
        model: LanguageModel,
        dictionaries: Mapping[Site, Dictionary],
        examples: Examples,
        ablation: Ablation,
        nodes: Nodes,
        *,
        rest: Rest = "ablated",
        batch_size: int = 64,
    ) -> None:
        """Compile `nodes`; the first call for these examples also runs the layers before the first dictionary.

        Raises:
            UsageError: no dictionaries, dictionaries out of order, a transcoder, or nodes of other sites.
        """
        if not dictionaries or tuple(dictionaries) != nodes.sites:
            raise UsageError(
                f"nodes of the dictionaries' sites expected ({', '.join(map(str, dictionaries)) or 'none given'}), "
                f"found nodes of {', '.join(map(str, nodes.sites)) or 'no site'}"
            )
        # The network resumes at the first of them: a site before it would be passed over in silence.
        if list(dictionaries) != sorted(dictionaries):
            raise UsageError(
                f"dictionaries in execution order expected ({', '.join(map(str, sorted(dictionaries)))}), "
                f"found {', '.join(map(str, dictionaries))}; put them in a DictionarySet"
            )
        for dictionary in dictionaries.values():
            dictionary.require_reconstruction("splicing")
        self.model, self.dictionaries, self.examples, self.ablation = (
            model,
            dictionaries,
            examples.to(model.device),
            ablation,
        )
        self.nodes, self.rest, self.batch_size = nodes, rest, batch_size
        self.start = _start(next(iter(dictionaries)))
        self._stream: Tensor | None = None
        self._other: dict[Site, Tensor] | None = None
        self._plans = {site: self._plan(index, site) for index, site in enumerate(dictionaries)}

    def over(self, nodes: Nodes, *, rest: Rest | None = None) -> "Splice":
        """The same network with masks over other `nodes`; what was computed before the first dictionary is shared."""
        other = Splice(
            self.model,
            self.dictionaries,
            self.examples,
            self.ablation,
            nodes,
            rest=rest or self.rest,
            batch_size=self.batch_size,
        )
        other._stream, other._other = self._prefix(), self._counterfactuals()
        return other

    def on(self, rows: Int[Tensor, "rows"]) -> "Splice":
        """The same network over some of the prompts only."""
        other = self.over(self.nodes)
        other.examples = self.examples.select(rows)
        other._stream = self._prefix()[rows]
        other._other = {site: stream[rows] for site, stream in self._counterfactuals().items()}
        return other

    def beyond(self, site: Site, mask: Float[Tensor, "node"]) -> "tuple[Splice, Int[Tensor, 'later']]":
        """The same network from a site on, with what reaches it under `mask` computed once and kept.

        Returns the network, whose nodes are those of `site` and the sites after it, and their positions in this one's.
        A `site` inside a layer cannot be resumed at: the network then begins at the nearest stream before it.
        """
        sites = self.nodes.sites
        index = sites.index(site)
        while index and _start(sites[index]) != sites[index]:
            index -= 1
        if index == 0:
            return self, torch.arange(len(self.nodes), device=self.nodes.site.device)
        later, kept = self.nodes.after(index)
        dictionaries = {name: self.dictionaries[name] for name in sites[index:]}
        other = Splice(
            self.model, dictionaries, self.examples, self.ablation, later, rest=self.rest, batch_size=self.batch_size
        )
        width = self.examples.clean.tokens.ids.shape[1]

        def reaching(rows: slice) -> Tensor:
            stream = self.streams(mask, rows)[sites[index]]
            return pad(stream, (0, 0, 0, width - stream.shape[1]))

        other._stream = torch.cat(in_batches(len(self.examples), self.batch_size, reaching))
        other._other = {name: stream for name, stream in self._counterfactuals().items() if name in dictionaries}
        return other, kept

    def __call__(
        self, mask: Float[Tensor, "node"], rows: Int[Tensor, "rows"] | slice = slice(None)
    ) -> Float[Tensor, "rows vocab"]:
        """Logits at the answer position of the chosen prompts; differentiable in `mask`."""
        return self._run(mask, self.batch(rows), None)

    def held(
        self, mask: Float[Tensor, "node"], rows: Int[Tensor, "rows"] | slice = slice(None)
    ) -> tuple[Float[Tensor, "rows vocab"], dict[Site, Float[Tensor, "batch pos d"]]]:
        """Logits and what each dictionary reads, every dictionary's output a function of `mask` alone.

        The values are those of the network under `mask`. Their gradients are direct effects: latents (and exact errors)
        count as constants, so that a gradient with respect to `mask` goes from a site to its readers through the
        model's own layers, and never through another dictionary.
        """
        seen: dict[Site, Tensor] = {}
        return self._run(mask, self.batch(rows), seen, held=True), seen

    def _run(
        self, mask: Tensor, batch: Batch, seen: dict[Site, Tensor] | None, *, held: bool = False
    ) -> Float[Tensor, "rows vocab"]:
        edits: dict[Site, Callable[[Tensor], Tensor]] = {
            site: partial(self._spliced, site, mask, batch, seen, held) for site in self.dictionaries
        }
        first = edits.pop(self.start, None)
        stream = first(batch.stream) if first is not None else batch.stream
        with frozen(self.model.hf), self.model.edit(edits):
            return self.model.resume(self.start, stream, batch.tokens, at=batch.end)

    def full(self, rows: Int[Tensor, "rows"] | slice = slice(None)) -> Float[Tensor, "rows vocab"]:
        """Logits of the model itself at the answer position: the same pass with nothing spliced in."""
        batch = self.batch(rows)
        return self.model.resume(self.start, batch.stream, batch.tokens, at=batch.end)

    def streams(
        self, mask: Float[Tensor, "node"], rows: Int[Tensor, "rows"] | slice = slice(None)
    ) -> dict[Site, Float[Tensor, "batch pos d"]]:
        """What each dictionary reads when the network runs under `mask` (no gradients)."""
        seen: dict[Site, Tensor] = {}
        with torch.no_grad():
            self._run(mask, self.batch(rows), seen)
        return seen

    def latents(
        self, rows: Int[Tensor, "rows"] | slice, streams: Mapping[Site, Float[Tensor, "batch pos d"]] | None = None
    ) -> dict[Site, tuple[Float[Tensor, "batch pos column"], Float[Tensor, "batch pos column"]]]:
        """The nodes' columns on `streams` (default: the model's own): values, and values minus ablation values."""
        batch = self.batch(rows)
        found = {}
        with torch.no_grad():
            streams = streams or self.model.capture(batch.tokens, list(self.dictionaries))
            for site, plan in self._plans.items():
                values = plan.dictionary.encode_dense(streams[site], plan.nodes.columns)
                found[site] = (values, values - self._ablated(site, plan, batch)[0])
        return found

    def batch(self, rows: Int[Tensor, "rows"] | slice) -> Batch:
        """The chosen prompts with their cached stream."""
        clean = self.examples.clean
        tokens = clean.tokens[rows]
        width = int(tokens.mask.sum(dim=1).max())
        return Batch(
            Tokens(tokens.ids[:, :width], tokens.mask[:, :width]),
            clean.roles[rows][:, :width],
            clean.slots[rows][:, :width],
            clean.end[rows],
            self._prefix()[rows][:, :width],
            {site: stream[rows][:, :width] for site, stream in self._counterfactuals().items()},
        )

    def _prefix(self) -> Float[Tensor, "prompt pos d"]:
        """The stream where the first dictionary reads it, for all prompts; computed once."""
        if self._stream is None:
            self._stream = self._captured(self.examples.clean.tokens, [self.start])[self.start]
        return self._stream

    def _counterfactuals(self) -> dict[Site, Float[Tensor, "prompt pos d"]]:
        """For resample ablation, the model's own streams on the counterfactuals at every site; computed once."""
        if self._other is None:
            resampled = self.ablation.kind == "resample"
            tokens = self.examples.counterfactual.tokens
            self._other = self._captured(tokens, list(self.dictionaries)) if resampled else {}
        return self._other

    def _captured(self, tokens: Tokens, sites: list[Site]) -> dict[Site, Float[Tensor, "prompt pos d"]]:
        with torch.no_grad():
            parts = in_batches(len(tokens), self.batch_size, lambda rows: self.model.capture(tokens[rows], sites))
        return {site: require_finite(torch.cat([part[site] for part in parts]), str(site)) for site in sites}

    def _plan(self, index: int, site: Site) -> _SitePlan:
        dictionary, values = self.dictionaries[site], self.ablation.sites[site]
        nodes = self.nodes.at(index)
        if values.latents is None:
            return _SitePlan(dictionary, nodes, None, None)
        with torch.no_grad():
            constant = dictionary.decode(values.latents.to(dictionary.W_dec.dtype))
        return _SitePlan(dictionary, nodes, values.latents[:, nodes.columns], constant)

    def _spliced(
        self, site: Site, mask: Tensor, batch: Batch, seen: dict[Site, Tensor] | None, held: bool, x: Tensor
    ) -> Float[Tensor, "batch pos d"]:
        """The new stream at `site` for the present stream `x`, which `seen` keeps; BOS and padding pass through."""
        if seen is not None:
            seen[site] = x
        out = self._replace(site, mask, batch, x.detach() if held else x)
        return torch.where(batch.through, x, out)

    def _replace(
        self, site: Site, mask: Tensor, batch: Batch, x: Float[Tensor, "batch pos d"]
    ) -> Float[Tensor, "batch pos d"]:
        plan = self._plans[site]
        ablated, constant = self._ablated(site, plan, batch)
        weight = self._weights(plan.nodes, mask, batch)
        away = plan.dictionary.encode_dense(x, plan.nodes.columns) - ablated
        decoder = plan.dictionary.W_dec[plan.nodes.columns]
        if self.rest == "kept":
            out = self._kept(plan.dictionary, x) + _in_stream(
                plan.dictionary, x, ((weight - 1) * away).to(decoder.dtype) @ decoder
            )
        else:
            out = _denormalised(plan.dictionary, x, constant + (weight * away).to(decoder.dtype) @ decoder)
            if self.ablation.errors == "keep":
                out = out + x - plan.dictionary.reconstruct(x, plan.dictionary.encode_dense(x))
        error = self.ablation.sites[site].error
        if error is not None:
            out = out + slot_rows(error.to(out.dtype), batch.slots)
        return out

    def _kept(self, dictionary: Dictionary, x: Tensor) -> Tensor:
        # With its exact error re-added an unmasked dictionary is the identity: nothing needs to be encoded.
        return x if self.ablation.errors == "keep" else dictionary.reconstruct(x, dictionary.encode_dense(x))

    def _weights(self, nodes: SiteNodes, mask: Tensor, batch: Batch) -> Float[Tensor, "batch pos column"]:
        """Mask of every column at every token; a column is no node at the roles that the nodes do not name."""
        rest = mask.new_full((len(self.nodes.roles), len(nodes.columns)), 1.0 if self.rest == "kept" else 0.0)
        grid = rest.index_put((nodes.role, nodes.column), mask[nodes.where])
        return embedding(batch.roles.clamp(min=0), grid)

    def _ablated(self, site: Site, plan: _SitePlan, batch: Batch) -> tuple[Tensor, Tensor]:
        """Ablation value of the nodes' columns, and the decoded ablation value of all latents, for every token."""
        if plan.ablated is not None and plan.constant is not None:
            return slot_rows(plan.ablated, batch.slots), slot_rows(plan.constant, batch.slots)
        bias = plan.dictionary.b_dec
        if self.ablation.kind == "zero":
            return bias.new_zeros(()), bias
        with torch.no_grad():
            latents = plan.dictionary.encode_dense(batch.counterfactual[site])
        return latents[..., plan.nodes.columns], plan.dictionary.decode(latents)


@contextlib.contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No gradients for the module's weights while inside: a mask's gradient then keeps no inputs of linear layers."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


def _denormalised(dictionary: Dictionary, x: Tensor, out: Tensor) -> Tensor:
    return dictionary.denormalise(out, dictionary.normalise(x)[1])


def _in_stream(dictionary: Dictionary, x: Tensor, change: Tensor) -> Tensor:
    """A change of the decoder's output in the units of the stream (denormalising is affine: take the difference)."""
    zero = torch.zeros_like(change)
    return _denormalised(dictionary, x, change) - _denormalised(dictionary, x, zero)


def _start(first: Site) -> Site:
    """The residual site from which the network can be resumed when `first` is the earliest dictionary."""
    if first.facts.resumable:
        return first
    if first.layer is None:
        raise UsageError(f"dictionaries on {first} cannot be spliced: expected a site inside a layer")
    return replace(first, kind="resid_pre")
