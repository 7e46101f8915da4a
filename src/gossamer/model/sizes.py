"""Name and sizes of a language model, and the sites it has."""

from collections.abc import Iterator

import torch

from gossamer.display import brief, plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.anatomy import Anatomy
from gossamer.model.family import Family
from gossamer.model.kinds import SITE_KINDS
from gossamer.model.names import title_of
from gossamer.model.site import Site, SiteLike


class Sizes:
    """What can be said of a model without running it; part of :class:`gossamer.model.LanguageModel`."""

    anatomy: Anatomy
    family: Family
    name: str

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.title}, {self.family.name}"
        yield f"{plural(self.n_layers, 'layer')}, d_model {self.d_model}"
        yield f"{brief(self.dtype)} on {self.device}"

    @property
    def title(self) -> str:
        """The name for readers, without this machine's paths; see :func:`gossamer.model.names.title_of`."""
        return title_of(self.name)

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.anatomy.layers)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.anatomy.d_model

    @property
    def n_heads(self) -> int:
        """Query heads of a layer."""
        return self.anatomy.n_heads

    @property
    def n_kv_heads(self) -> int:
        """Key and value heads of a layer; fewer than `n_heads` with grouped queries."""
        return self.anatomy.n_kv_heads

    @property
    def d_head(self) -> int:
        """Width of a head."""
        return self.anatomy.d_head

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

    def sites(self, kind: str) -> list[Site]:
        """All sites of one kind, in execution order."""
        per_layer = kind not in SITE_KINDS or SITE_KINDS[kind].per_layer
        sites = [Site(kind, layer) for layer in range(self.n_layers)] if per_layer else [Site(kind)]
        for site in sites:
            self.anatomy.check(site)
        return sites

    @property
    def kinds(self) -> list[str]:
        """The kinds of sites that this model has, in execution order."""
        return list(self.anatomy.kinds())

    def width(self, site: SiteLike) -> int:
        """Size of the last axis at `site`.

        Raises:
            UsageError: the model has no such site, or it is of pairs of positions, as wide as the prompt is long.
        """
        site = Site.of(site)
        self.anatomy.check(site)
        widths = {"d_model": self.d_model, "d_head": self.d_head, "head*d_head": self.n_heads * self.d_head, "one": 1}
        last = site.facts.axes[-1]
        if last not in widths:
            raise UsageError(f"{site} has no fixed width: its last axis is the position attended to")
        return widths[last]
