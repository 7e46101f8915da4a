"""Runs of a model on prompts of which one token's values are replaced, each prompt at its own token."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.attention.ioi.prompts import EncodedPrompts
from gossamer.batching import in_batches
from gossamer.display import short_repr
from gossamer.model.inputs import gathered
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import BySite, Site

_BATCH = 128
# What stands at a site from now on: the token of each run where, and its values there.
Replaced = tuple[Int[Tensor, "run"], Float[Tensor, "run ..."]]


@dataclass(frozen=True, eq=False)
class CleanRun:
    """What a model computes on some prompts: where runs with replaced values start from.

    Memory: the streams and z of all layers, for every prompt and token.

    Attributes:
        model: the language model.
        prompts: the prompts, on its device.
        values: of resid_pre and z of all layers.
        difference: logit of the indirect object minus that of the subject, at the last token.
    """

    model: LanguageModel
    prompts: EncodedPrompts
    values: BySite[Tensor]
    difference: Float[Tensor, "prompt"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.model.title
        yield repr(self.prompts)
        yield f"logit difference {float(self.difference.mean()):.3g}"

    @classmethod
    @torch.no_grad()
    def of(cls, model: LanguageModel, prompts: EncodedPrompts) -> "CleanRun":
        """Run the model once."""
        prompts = prompts.to(model.device)
        sites = sorted(Site(kind, layer) for kind in ("resid_pre", "z") for layer in range(model.n_layers))

        last = Site("resid_post", model.n_layers - 1)

        def batch(rows: slice) -> tuple[BySite[Tensor], Tensor]:
            found = model.capture(prompts.tokens[rows], [*sites, last])
            end = gathered(found.pop(last), prompts.places["END"][rows])
            return found, _lead(model.unembed(end, prompts.answers[rows]))

        parts = in_batches(len(prompts), _BATCH, batch)
        values = BySite((site, torch.cat([one[site] for one, _ in parts])) for site in sites)
        return cls(model, prompts, values, torch.cat([found for _, found in parts]))

    def __getitem__(self, rows: Int[Tensor, "rows"]) -> "CleanRun":
        values = BySite((site, found[rows]) for site, found in self.values.items())
        return CleanRun(self.model, self.prompts[rows], values, self.difference[rows])

    def at(self, site: Site, role: str) -> Float[Tensor, "prompt d"]:
        """The value of a site at the token of a role, in every prompt."""
        return self.values[site][torch.arange(len(self.prompts)), self.prompts.places[role]]

    @torch.no_grad()
    def differences(
        self, rows: Int[Tensor, "run"], layer: int, replaced: Mapping[Site, Replaced]
    ) -> Float[Tensor, "run"]:
        """Logit differences of runs in which values are replaced, from `layer` on.

        Args:
            rows: the prompt of each run.
            layer: no site before it is replaced.
            replaced: what stands where, by site.
        """
        start = Site("resid_pre", layer)

        def batch(part: slice) -> Tensor:
            chosen = rows[part]
            tokens, ids = self.prompts.tokens[chosen], self.prompts.answers[chosen]
            with self.model.edit(_edits(replaced, part)):
                at = self.prompts.places["END"][chosen]
                return _lead(self.model.resume(start, self.values[start][chosen], tokens, at=at, ids=ids))

        return torch.cat(in_batches(len(rows), _BATCH, batch)) if len(rows) else self.difference[rows]

    @torch.no_grad()
    def captured(
        self, rows: Int[Tensor, "run"], layer: int, replaced: Mapping[Site, Replaced], sites: Mapping[Site, Tensor]
    ) -> BySite[Tensor]:
        """Values of `sites`, each at the token of every run that stands beside it, in such runs."""
        start = Site("resid_pre", layer)

        def batch(part: slice) -> list[Tensor]:
            chosen = rows[part]
            stream = (start, self.values[start][chosen])
            with self.model.edit(_edits(replaced, part)):
                found = self.model.capture(self.prompts.tokens[chosen], sites, start=stream)
            return [found[site][torch.arange(len(chosen)), where[part]] for site, where in sites.items()]

        parts = in_batches(len(rows), _BATCH, batch)
        return BySite((site, torch.cat([one[place] for one in parts])) for place, site in enumerate(sites))


def _edits(replaced: Mapping[Site, Replaced], part: slice) -> dict[Site, "_Instead"]:
    return {site: _Instead(where[part], values[part]) for site, (where, values) in replaced.items()}


@dataclass(frozen=True, eq=False)
class _Instead:
    """An edit: other values at one token of every row."""

    where: Tensor
    values: Tensor

    def __call__(self, value: Tensor) -> Tensor:
        return value.index_put((torch.arange(len(value), device=value.device), self.where), self.values.to(value))


def _lead(logits: Float[Tensor, "run two"]) -> Float[Tensor, "run"]:
    return logits[:, 0].float() - logits[:, 1].float()
