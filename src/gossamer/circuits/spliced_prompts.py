"""Prompts in a model with dictionaries, and what is computed once for every splice over them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.ablation import Ablation, group_rows
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import short_repr
from gossamer.finite import require_finite
from gossamer.model.site import Site
from gossamer.replacement.replacement_model import ReplacementModel
from gossamer.tasks.task import PromptPairs
from gossamer.tokens import Tokens


class Shared(NamedTuple):
    """What depends on neither nodes nor masks: computed once, and shared by every splice over the same prompts.

    Attributes:
        stream: the clean prompts' stream where the network starts; the layers before it run once.
        counterfactual: for resample ablation, the model's own streams on the counterfactuals; empty otherwise.
        constants: what the ablation values of all latents decode to, where they are the same for every prompt.
        resampled: for resample ablation, what the latents on the counterfactuals decode to.
    """

    stream: Float[Tensor, "prompt pos d"]
    counterfactual: Mapping[Site, Float[Tensor, "prompt pos d"]]
    constants: Mapping[Site, Float[Tensor, "group d"]]
    resampled: Mapping[Site, Float[Tensor, "prompt pos d"]]

    def __repr__(self) -> str:
        return short_repr(self)


@dataclass(frozen=True, eq=False)
class SplicedPrompts:
    """Prompts in the model with its dictionaries.

    Attributes:
        network: the model with the dictionaries.
        examples: the prompts, on the model's device.
        ablation: where ablated latents go.
        batch_size: prompts a pass.
        given: what is known of them already; None: it is computed when it is first needed.
        stream: of that the stream where the network starts, where it alone is known.
        known_errors: what :attr:`errors` gives, where that is known.
    """

    network: ReplacementModel
    examples: PromptPairs
    ablation: Ablation
    batch_size: int
    given: Shared | None = None
    stream: Float[Tensor, "prompt pos d"] | None = None
    known_errors: Mapping[Site, Float[Tensor, "prompt pos d"]] | None = None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.network)
        yield repr(self.examples)

    @cached_property
    def shared(self) -> Shared:
        """See :class:`Shared`."""
        if self.given is not None:
            return self.given
        start, dictionaries = self.network.start, self.network.dictionaries
        stream = self.stream
        if stream is None:
            stream = self._captured(self.examples.clean.tokens, [start])[start]
        resampled = self.ablation.kind == "resample"
        other = self._captured(self.examples.counterfactual.tokens, list(dictionaries)) if resampled else {}
        constants = {}
        with torch.no_grad():
            for site, dictionary in dictionaries.items():
                latents = self.ablation.sites[site].latents
                if latents is not None:
                    constants[site] = dictionary.decode_normalised(latents.to(dictionary.W_dec.dtype))
        decoded = {site: self._decoded(dictionaries[site], x) for site, x in other.items()}
        return Shared(stream, other, constants, decoded)

    @torch.no_grad()
    def _decoded(self, dictionary: Dictionary, x: Float[Tensor, "prompt pos d"]) -> Float[Tensor, "prompt pos d"]:
        def part(rows: slice) -> Tensor:
            return dictionary.decode_normalised(dictionary.encode_dense(x[rows]))

        return torch.cat(in_batches(len(x), self.batch_size, part))

    @cached_property
    def errors(self) -> Mapping[Site, Float[Tensor, "prompt pos d"]]:
        """Reconstruction errors on the model's own streams, minus what stands in for them where they are ablated.

        Memory: prompts x positions x d_model a site.
        """
        if self.known_errors is not None:
            return self.known_errors
        dictionaries, clean = self.network.dictionaries, self.examples.clean

        def part(rows: slice) -> dict[Site, Tensor]:
            found = {}
            for site, x in self.network.model.capture(clean.tokens[rows], list(dictionaries)).items():
                error = x - dictionaries[site].reconstruct(x, dictionaries[site].encode_dense(x))
                mean = self.ablation.sites[site].error
                found[site] = error if mean is None else error - group_rows(mean, clean.ablation_groups[rows]).to(error)
            return found

        with torch.no_grad():
            parts = in_batches(len(clean.tokens), self.batch_size, part)
        return {site: require_finite(torch.cat([one[site] for one in parts]), str(site)) for site in dictionaries}

    def _captured(self, tokens: Tokens, sites: list[Site]) -> dict[Site, Float[Tensor, "prompt pos d"]]:
        model = self.network.model
        with torch.no_grad():
            parts = in_batches(len(tokens), self.batch_size, lambda rows: model.capture(tokens[rows], sites))
        return {site: require_finite(torch.cat([part[site] for part in parts]), str(site)) for site in sites}

    def select(self, rows: Int[Tensor, "rows"]) -> "SplicedPrompts":
        """Some of the prompts; what is known of all of them is not computed again."""
        known = self.shared
        other = {site: stream[rows] for site, stream in known.counterfactual.items()}
        decoded = {site: one[rows] for site, one in known.resampled.items()}
        given = Shared(known.stream[rows], other, known.constants, decoded)
        errors = self._computed_errors
        errors = None if errors is None else {site: error[rows] for site, error in errors.items()}
        examples = self.examples.select(rows)
        return replace(self, examples=examples, given=given, stream=None, known_errors=errors)

    def resumed(self, site: Site, stream: Float[Tensor, "prompt pos d"]) -> "SplicedPrompts":
        """The same prompts in the network from `site` on, which `stream` reaches."""
        network = self.network.with_sites(one for one in self.network.dictionaries if one >= site)
        given = self.shared._replace(stream=stream)
        return replace(self, network=network, given=given, stream=None, known_errors=self._computed_errors)

    @property
    def _computed_errors(self) -> Mapping[Site, Float[Tensor, "prompt pos d"]] | None:
        """What is known of :attr:`errors` by now: they are not computed for circuits without error nodes."""
        return self.__dict__.get("errors", self.known_errors)
