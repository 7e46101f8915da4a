"""The model with dictionaries in its residual stream: a mask over latents is its only free argument."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding, pad

from gossamer.batching import distinct_rows, in_batches
from gossamer.circuits.ablation import Ablation, group_rows
from gossamer.circuits.batch import Batch
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.outputs import Outputs, last_stream
from gossamer.circuits.site_plan import SitePlan, denormalised, in_stream
from gossamer.circuits.spliced_prompts import SplicedPrompts
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.inputs import gathered
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import BySite, Site
from gossamer.replacement.replacement_model import Reconstruct, ReplacementModel, frozen_weights, resumable
from gossamer.tasks.task import PromptPairs
from gossamer.tokens import Tokens

NonNodes = Literal["ablated", "kept"]
# Prompts of one pass through whole dictionaries, at most: all latents of all sites stand in memory at once, where a
# pass over candidates holds few columns. With more, finding the candidates would take more memory than the search.
WHOLE_BATCH = 16


@dataclass(frozen=True, eq=False)
class Splice:
    """Dictionaries replace the stream at their sites; masked latents move to their ablation value.

    With latents a, ablation values m and mask M, the stream at a site becomes ``dec(m + M * (a - m))`` plus the mean
    error (errors="mean"), nothing ("drop") or the exact error of the present stream ("keep"). Every later dictionary
    encodes the already modified stream; BOS and padding pass through. Latents that are no node have M = 0
    (non_nodes="ablated": folded into one constant an ablation group, so that only the nodes' columns are encoded and
    decoded, with the same result) or M = 1 (non_nodes="kept": the full encoder runs). The layers before the first
    dictionary run once.

    An error node adds ``M * (e - e0)`` at its site to the tokens of its role: e is the reconstruction error on the
    prompt in the model itself, e0 what stands in for errors otherwise (their mean, or nothing). So it is an input of
    the circuit, which nothing in the circuit changes. With every latent and every error kept the network is the model.

    Source: masked replacement of the residual stream by sparse autoencoders, Caples et al. 2025.
    Memory: prompts x positions x d_model for the cached stream; positions x columns a site for each prompt in a batch.

    Attributes:
        prompts: model, dictionaries, examples and ablation, with what all splices over them share.
        nodes: what the mask has entries for.
        non_nodes: what becomes of all other latents.

    Raises:
        UsageError: the nodes are of other sites than the dictionaries, or errors are nodes and kept anyway.
    """

    prompts: SplicedPrompts
    nodes: Nodes
    non_nodes: NonNodes = "ablated"

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.model.title
        yield plural(len(self.examples), "prompt")
        yield repr(self.nodes)
        yield f"non_nodes={self.non_nodes!r}"

    def __post_init__(self) -> None:
        if tuple(self.dictionaries) != self.nodes.sites:
            raise UsageError(
                f"nodes of the dictionaries' sites expected ({', '.join(map(str, self.dictionaries))}), "
                f"found nodes of {', '.join(map(str, self.nodes.sites)) or 'no site'}"
            )
        if self.ablation.errors == "keep" and bool(self.nodes.is_error.any()):
            raise UsageError(
                "error nodes: errors that are ablated where they are no node expected ('mean' or 'drop'), found "
                "errors='keep', with which all of them are kept; choose one or the other"
            )

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        dictionaries: Mapping[Site, Dictionary],
        examples: PromptPairs,
        ablation: Ablation,
        nodes: Nodes,
        *,
        non_nodes: NonNodes = "ablated",
        batch_size: int = 64,
        stream: Float[Tensor, "prompt pos d"] | None = None,
    ) -> "Splice":
        """A splice of its own over these prompts; :meth:`with_nodes` and the like share what it has computed.

        `stream` is what the prompts have where the network starts, where that is known.

        Raises:
            UsageError: no dictionaries, dictionaries out of order, a transcoder, or nodes of other sites.
        """
        errors = {site: values.error for site, values in ablation.sites.items() if values.error is not None}
        network = ReplacementModel(model, dictionaries, ablation.errors, errors)
        return cls(
            SplicedPrompts(network, examples.to(model.device), ablation, batch_size, stream=stream), nodes, non_nodes
        )

    @property
    def model(self) -> LanguageModel:
        """The language model."""
        return self.prompts.network.model

    @property
    def dictionaries(self) -> Mapping[Site, Dictionary]:
        """One for each site, in execution order."""
        return self.prompts.network.dictionaries

    @property
    def examples(self) -> PromptPairs:
        """The prompts."""
        return self.prompts.examples

    @property
    def ablation(self) -> Ablation:
        """Where ablated latents go."""
        return self.prompts.ablation

    @property
    def batch_size(self) -> int:
        """Prompts a pass."""
        return self.prompts.batch_size

    @cached_property
    def _plans(self) -> dict[Site, SitePlan]:
        plans, kept = {}, self.non_nodes == "kept"
        for index, (site, dictionary) in enumerate(self.dictionaries.items()):
            nodes, latents = self.nodes.at(index), self.ablation.sites[site].latents
            ablated = None if latents is None else latents[:, nodes.columns]
            plans[site] = SitePlan(dictionary, nodes, ablated, self.prompts.shared.constants.get(site), kept)
        return plans

    def with_nodes(self, nodes: Nodes, *, non_nodes: NonNodes | None = None) -> "Splice":
        """The same network with masks over other `nodes`; what depends on no node is shared."""
        return Splice(self.prompts, nodes, non_nodes or self.non_nodes)

    def select(self, rows: Int[Tensor, "rows"]) -> "Splice":
        """The same network over some of the prompts only."""
        return Splice(self.prompts.select(rows), self.nodes, self.non_nodes)

    def resume_from(self, site: Site, mask: Float[Tensor, "node"]) -> "tuple[Splice, Int[Tensor, 'later']]":
        """The same network from a site on, with what reaches it under `mask` computed once and kept.

        Returns the network, whose nodes are those of `site` and the sites after it, and their positions in this one's.
        A `site` inside a layer cannot be resumed at: the network then begins at the nearest stream before it.
        """
        sites = self.nodes.sites
        index = sites.index(site)
        while index and resumable(sites[index]) != sites[index]:
            index -= 1
        if index == 0:
            return self, torch.arange(len(self.nodes), device=self.nodes.site.device)
        later, kept = self.nodes.after(index)
        width = self.examples.clean.tokens.ids.shape[1]

        def reaching(rows: slice) -> Tensor:
            stream = self.streams(mask, rows)[sites[index]]
            return pad(stream, (0, 0, 0, width - stream.shape[1]))

        stream = torch.cat(in_batches(len(self.examples), self.batch_size, reaching))
        return Splice(self.prompts.resumed(sites[index], stream), later, self.non_nodes), kept

    def __call__(
        self, mask: Float[Tensor, "node"], rows: Int[Tensor, "rows"] | slice = slice(None)
    ) -> Float[Tensor, "rows vocab"]:
        """Logits of all tokens at the answer position of the chosen prompts; differentiable in `mask`."""
        return self.outputs(mask, rows).logits()

    def outputs(self, mask: Float[Tensor, "node"], rows: Int[Tensor, "rows"] | slice = slice(None)) -> Outputs:
        """What the network says at the answer position of the chosen prompts; differentiable in `mask`."""
        return self.run(mask, self.batch(rows))

    def read(
        self, mask: Float[Tensor, "node"], rows: Int[Tensor, "rows"] | slice = slice(None)
    ) -> tuple[Outputs, dict[Site, Float[Tensor, "batch pos d"]]]:
        """:meth:`outputs`, and what each dictionary reads on the way."""
        seen: dict[Site, Tensor] = {}
        return self.run(mask, self.batch(rows), seen), seen

    def run(
        self, mask: Float[Tensor, "node"], batch: Batch, seen: dict[Site, Float[Tensor, "batch pos d"]] | None = None
    ) -> Outputs:
        """What the network says of a batch of the prompts; `seen` gets what each dictionary reads on the way."""
        stream = self._stream(last_stream(self.model), mask, batch, seen)
        return Outputs(gathered(stream, batch.answer_position), self.unembed)

    def _stream(
        self, site: Site, mask: Tensor, batch: Batch, seen: dict[Site, Tensor] | None
    ) -> Float[Tensor, "batch pos d"]:
        """What `site` holds when the network runs under `mask`; `seen` gets what each dictionary up to it reads."""
        batch, kind = self._distinct(mask, batch) if seen is None and batch.past is None else (batch, None)

        def reconstruct(site: Site, x: Tensor) -> Tensor:
            if seen is not None:
                seen[site] = x
            return self._replace_answer(mask, batch, x) if site == last else self._replace(site, mask, batch, x)

        last = last_stream(self.model)
        found = self.capture(batch, [site], reconstruct)[site]
        return found if kind is None else found[kind]

    def _replace_answer(self, mask: Tensor, batch: Batch, x: Float[Tensor, "batch pos d"]) -> Tensor:
        """What stands in the last stream, of which nothing reads any position but the answer's: all others pass."""
        rows = torch.arange(len(x), device=x.device)
        here = gathered(x, batch.answer_position).unsqueeze(1)
        written = self._replace(last_stream(self.model), mask, batch.at_answer(), here).squeeze(1)
        return x.index_put((rows, batch.answer_position), written.to(x))

    def capture(self, batch: Batch, sites: Sequence[Site], reconstruct: Reconstruct) -> BySite[Tensor]:
        """Values of `sites` on a batch, with what `reconstruct` makes of what stands at each dictionary's site."""
        return self.prompts.network.capture(
            batch.tokens, batch.replaced, sites, prefix=batch.stream, reconstruct=reconstruct, past=batch.past
        )

    def outputs_of(self, batch: Batch, reconstruct: Reconstruct) -> Outputs:
        """What the network says of a batch when dictionaries stand in as `reconstruct` has it; differentiable."""
        last = last_stream(self.model)
        return Outputs(gathered(self.capture(batch, [last], reconstruct)[last], batch.answer_position), self.unembed)

    def _distinct(self, mask: Tensor, batch: Batch) -> tuple[Batch, Int[Tensor, "rows"] | None]:
        """The prompts of a batch that differ behind the first dictionary, and of every prompt which of them it is.

        Prompts of a template in which no node is active are equal from there on, to the bit. They are not looked for
        where gradients are asked for.
        """
        after = None if torch.is_grad_enabled() else self.behind_first(mask, batch)
        if after is None:
            return batch, None
        first, kind = distinct_rows(after, batch.tokens.mask, batch.roles, batch.ablation_groups)
        if len(first) == len(kind):
            return batch, None
        return batch.select(first), kind

    def behind_first(self, mask: Float[Tensor, "node"], batch: Batch) -> Float[Tensor, "batch pos d"] | None:
        """The stream behind the first dictionary, 0 at padding: with roles and groups, all that later layers depend on.

        None where they depend on more, and off a CPU, where a pass is cheap and rows are not compared to save one.
        """
        start = self.prompts.network.start
        inert = self.non_nodes == "ablated" and not batch.counterfactual and not batch.errors
        if not inert or start not in self.dictionaries or batch.stream.device.type != "cpu":
            return None
        written = self._replace(start, mask, batch, batch.stream).to(batch.stream)
        after = torch.where(batch.replaced.unsqueeze(-1), written, batch.stream)
        return after.masked_fill(~batch.tokens.mask.unsqueeze(-1), 0.0)

    def full(self, rows: Int[Tensor, "rows"] | slice = slice(None)) -> Outputs:
        """What the model itself says at the answer position: the same pass with nothing spliced in."""
        batch, start, last = self.batch(rows), self.prompts.network.start, last_stream(self.model)
        stream = batch.stream
        if start != last:
            stream = self.model.capture(batch.tokens, [last], start=(start, stream))[last]
        return Outputs(gathered(stream, batch.answer_position), self.unembed)

    def unembed(self, x: Float[Tensor, "rows d"], ids: Int[Tensor, "rows n"] | None = None) -> Tensor:
        """Logits of what stands in the last stream; no gradients for the weights of the model."""
        with frozen_weights(self.model.hf):
            return self.model.unembed(x, ids)

    def streams(
        self, mask: Float[Tensor, "node"], rows: Int[Tensor, "rows"] | slice = slice(None)
    ) -> dict[Site, Float[Tensor, "batch pos d"]]:
        """What each dictionary reads when the network runs under `mask` (no gradients)."""
        seen: dict[Site, Tensor] = {}
        with torch.no_grad():
            self._stream(list(self.dictionaries)[-1], mask, self.batch(rows), seen)
        return seen

    def latents(
        self, rows: Int[Tensor, "rows"] | slice, streams: Mapping[Site, Float[Tensor, "batch pos d"]] | None = None
    ) -> dict[Site, tuple[Float[Tensor, "batch pos latent"], Float[Tensor, "batch pos latent"]]]:
        """The nodes' latents on `streams` (default: the model's own): values, and values minus ablation values."""
        batch = self.batch(rows)
        found = {}
        with torch.no_grad():
            streams = streams or self.own_streams(batch)
            for site, plan in self._plans.items():
                values = plan.dictionary.encode_dense(streams[site], plan.nodes.columns)
                found[site] = (values, self._from_ablated(site, batch, values))
        return found

    def own_streams(self, batch: Batch) -> dict[Site, Float[Tensor, "batch pos d"]]:
        """What the dictionaries' sites hold in the model itself."""
        start = self.prompts.network.start
        later = [site for site in self.dictionaries if site != start]
        found = self.model.capture(batch.tokens, later, start=(start, batch.stream)) if later else {}
        return {site: batch.stream if site == start else found[site] for site in self.dictionaries}

    def batch(self, rows: Int[Tensor, "rows"] | slice) -> Batch:
        """The chosen prompts with their cached stream."""
        clean, shared = self.examples.clean, self.prompts.shared
        errors = self.prompts.errors if any(plan.nodes.has_error for plan in self._plans.values()) else {}
        tokens = clean.tokens[rows]
        width = int(tokens.mask.sum(dim=1).max())
        return Batch(
            Tokens(tokens.ids[:, :width], tokens.mask[:, :width]),
            clean.roles[rows][:, :width],
            clean.ablation_groups[rows][:, :width],
            clean.answer_position[rows],
            shared.stream[rows][:, :width],
            {site: stream[rows][:, :width] for site, stream in shared.counterfactual.items()},
            {site: decoded[rows][:, :width] for site, decoded in shared.resampled.items()},
            {site: errors[site][rows][:, :width] for site, plan in self._plans.items() if plan.nodes.has_error},
        )

    def _replace(
        self, site: Site, mask: Tensor, batch: Batch, x: Float[Tensor, "batch pos d"]
    ) -> Float[Tensor, "batch pos d"]:
        weight, away = self._weights(site, mask, batch, self._plans[site].base), self.away(site, batch, x)
        moved = (weight if self.non_nodes == "ablated" else weight - self._plans[site].base) * away
        return self.written(site, batch, x, moved)

    def moved(
        self,
        site: Site,
        mask: Float[Tensor, "node"],
        batch: Batch,
        given: Float[Tensor, "batch pos column"],
        live: Float[Tensor, "batch pos column"],
    ) -> Float[Tensor, "batch pos column"]:
        """What :meth:`written` takes when nodes are `given` from their ablation values, times their mask.

        `live` is how far the columns are from them on what reaches the site (:meth:`away`): columns that are no node at
        a token are so wherever non-nodes are kept.
        """
        base = self._plans[site].base
        moved = self._weights(site, mask, batch, torch.zeros_like(base)) * given
        if self.non_nodes == "ablated":
            return moved
        return moved - self._weights(site, torch.ones_like(mask), batch, torch.zeros_like(base)) * base * live

    def _weights(
        self, site: Site, mask: Float[Tensor, "node"], batch: Batch, otherwise: Float[Tensor, "column"]
    ) -> Float[Tensor, "batch pos column"]:
        """Mask of every column of a site at every token; where a column is no node, `otherwise`."""
        nodes = self._plans[site].nodes
        rest = otherwise.to(mask).expand(len(self.nodes.roles), -1)
        grid = rest.index_put((nodes.role, nodes.column), mask[nodes.where])
        return embedding(batch.roles.clamp(min=0), grid)

    def away(self, site: Site, batch: Batch, x: Float[Tensor, "batch pos d"]) -> Float[Tensor, "batch pos column"]:
        """How far a site's columns are from their ablation values when its dictionary reads `x`.

        An error is so by one: by the whole of what it is on the prompt.
        """
        nodes = self._plans[site].nodes
        latents = self._from_ablated(site, batch, self.dictionaries[site].encode_dense(x, nodes.columns))
        return pad(latents, (0, 1), value=1.0) if nodes.has_error else latents

    def _from_ablated(self, site: Site, batch: Batch, latents: Float[Tensor, "batch pos column"]) -> Tensor:
        plan = self._plans[site]
        if plan.ablated is not None:
            return latents - group_rows(plan.ablated, batch.ablation_groups)
        if self.ablation.kind == "zero":
            return latents
        with torch.no_grad():
            resampled = plan.dictionary.encode_dense(batch.counterfactual[site], plan.nodes.columns)
        return latents - resampled

    def written(
        self, site: Site, batch: Batch, x: Float[Tensor, "batch pos d"], moved: Float[Tensor, "batch pos column"]
    ) -> Float[Tensor, "batch pos d"]:
        """What stands at a site in place of `x` when its columns are `moved` from where `non_nodes` leaves latents.

        That is from their ablation values ("ablated"), or from what they are on `x` ("kept").
        """
        plan, network = self._plans[site], self.prompts.network
        dictionary, width = plan.dictionary, len(plan.nodes.columns)
        moved = moved.to(plan.decoder.dtype)
        change = moved[..., :width] @ plan.decoder
        mean = self.ablation.sites[site].error
        error = None if mean is None else group_rows(mean, batch.ablation_groups)
        if self.non_nodes == "kept" and network.errors == "keep":
            return x + in_stream(dictionary, x, change)
        if self.non_nodes == "ablated":
            out = denormalised(dictionary, x, self._constant(site, plan, batch) + change)
        else:
            out = dictionary.reconstruct(x, dictionary.encode_dense(x)) + in_stream(dictionary, x, change)
        out = network.with_error(site, x, out, error)
        return out + moved[..., width:] * batch.errors[site] if plan.nodes.has_error else out

    def _constant(self, site: Site, plan: SitePlan, batch: Batch) -> Float[Tensor, "..."]:
        """The decoded ablation values of all latents, for every token."""
        if plan.constant is not None:
            return group_rows(plan.constant, batch.ablation_groups)
        return plan.dictionary.b_dec if self.ablation.kind == "zero" else batch.resampled[site]
