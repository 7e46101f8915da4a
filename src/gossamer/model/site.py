"""Names of places in the network that can be read and edited."""

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import total_ordering
from typing import TYPE_CHECKING, TypeVar

from gossamer.display import brief, short_repr
from gossamer.errors import UsageError
from gossamer.model.kinds import KINDS, SITE_KINDS, SiteKind, named

_IN_LAYER = named(per_layer=True)
_ORDER = {kind: place for place, kind in enumerate(_IN_LAYER)}
_OURS = re.compile(rf"({'|'.join(_IN_LAYER)})\.(\d+)")
_TRANSFORMER_LENS = re.compile(r"blocks\.(\d+)\.(.+)")
_TRANSFORMER_LENS_NAMES = {name: kind for kind, row in SITE_KINDS.items() for name in row.transformer_lens}
_HUGGING_FACE = re.compile(r"(?:(?:model|language_model|transformer|gpt_neox)\.)*(?:layers|h)\.(\d+)(?:\.(\w+))?")
_HUGGING_FACE_NAMES = {name: kind for kind, row in SITE_KINDS.items() for name in row.hugging_face}


@total_ordering
@dataclass(frozen=True)
class Site:
    """One place in the residual network. Sites sort in the order in which a forward pass reaches them.

    ================  ===========================================================  =========================
    kind              what stands there                                            shape
    ================  ===========================================================  =========================
    embed             what enters the first block (token + position, scaled)       batch pos d_model
    resid_pre         the residual stream before a layer                           batch pos d_model
    attn_normalized   attention's norm before its gain and bias                    batch pos d_model
    attn_in           what enters attention, after its norm if there is one        batch pos d_model
    q_proj, k_proj    queries and keys as projected, before any norm or rotation   batch pos (kv)head d_head
    q, k              queries and keys as they enter the dot product               batch pos (kv)head d_head
    v                 values, before they are repeated for grouped queries         batch pos kv_head d_head
    scores            what goes into the softmax, scaled and capped; where         batch head query key
                      masked, the most negative number of its type (an edit
                      cannot lift the mask)
    pattern           attention probabilities                                      batch head query key
    z                 head outputs side by side, before the output projection      batch pos head*d_head
    attn_out          what attention adds to the stream                            batch pos d_model
    resid_mid         the stream between attention and MLP                         batch pos d_model
    mlp_normalized    the MLP's norm before its gain and bias                      batch pos d_model
    mlp_in            what enters the MLP, after its norm if there is one          batch pos d_model
    mlp_out           what the MLP adds to the stream                              batch pos d_model
    resid_post        the stream after a layer                                     batch pos d_model
    ================  ===========================================================  =========================

    Norm scales (batch pos one) are 1 / std, or 1 / rms, of what a norm reads: attn_norm_scale and mlp_norm_scale of
    the norms before attention and MLP, attn_post_norm_scale and mlp_post_norm_scale of those after them, and
    final_norm_scale. What is added to the stream is taken after any norm or multiplier.

    A model lacks the kinds of norms that it does not have (mlp_norm_scale where the MLP shares attention's norm) and
    resid_mid where attention and MLP run in parallel. `embed` and `final_norm_scale` have no layer.

    Attributes:
        kind: one of `KINDS`.
        layer: index of the layer, from 0; None for `embed` and `final_norm_scale`.

    Raises:
        UsageError: the kind is unknown, or the layer is missing, negative or out of place.
    """

    kind: str
    layer: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in SITE_KINDS:
            raise UsageError(f"site kind {self.kind!r}: expected one of {', '.join(KINDS)}")
        if self.facts.per_layer == (self.layer is None):
            raise UsageError(f"site {self.kind}: expected {'a layer' if self.facts.per_layer else 'no layer'}")
        if self.layer is not None and self.layer < 0:
            raise UsageError(f"site {self.kind}: expected a layer from 0, found {self.layer}")

    @classmethod
    def of(cls, value: "Site | str") -> "Site":
        """The site itself, or the one that `value` names as for :meth:`parse`.

        Raises:
            UsageError: the text names no site.
        """
        return value if isinstance(value, Site) else cls.parse(value)

    @classmethod
    def parse(cls, text: str) -> "Site":
        """The site that `text` names.

        Accepted are gossamer's names (`resid_post.7`), TransformerLens names (`blocks.7.hook_resid_post`; `hook_q` is
        `q_proj`, which is also `q` where nothing is rotated; `ln2.hook_normalized` is the MLP's norm before its gain)
        and Hugging Face module paths, which mean what the module adds to the stream or puts out
        (`model.layers.7` is `resid_post.7`, `transformer.h.3.mlp` is `mlp_out.3`).

        Raises:
            UsageError: the text names no site; the message lists the kinds.
        """
        text = text.strip()
        if text in SITE_KINDS and not SITE_KINDS[text].per_layer:
            return cls(text)
        if found := _OURS.fullmatch(text):
            return cls(found[1], int(found[2]))
        found = _TRANSFORMER_LENS.fullmatch(text)
        if found and found[2] in _TRANSFORMER_LENS_NAMES:
            return cls(_TRANSFORMER_LENS_NAMES[found[2]], int(found[1]))
        found = _HUGGING_FACE.fullmatch(text)
        if found and (found[2] or "") in _HUGGING_FACE_NAMES:
            return cls(_HUGGING_FACE_NAMES[found[2] or ""], int(found[1]))
        if text == "hook_embed":
            raise UsageError(
                "hook_embed is no site: it holds token embeddings before positions are added or anything is scaled; "
                "where a model does neither, that is embed"
            )
        raise UsageError(
            f"{text!r} is no site: expected embed or KIND.LAYER with KIND one of {', '.join(_IN_LAYER)}, "
            f"such as resid_post.7 (or blocks.7.hook_resid_post, or model.layers.7)"
        )

    def __str__(self) -> str:
        return self.kind if self.layer is None else f"{self.kind}.{self.layer}"

    def __lt__(self, other: "Site") -> bool:
        return self.depth < other.depth

    @property
    def facts(self) -> SiteKind:
        """What holds for all sites of this kind."""
        return SITE_KINDS[self.kind]

    @property
    def depth(self) -> int:
        """Place in execution order: smaller is earlier, unique to each site."""
        if self.layer is None:
            return -1 if self.kind == "embed" else sys.maxsize
        return self.layer * len(_IN_LAYER) + _ORDER[self.kind]

    @property
    def transformer_lens(self) -> str:
        """The TransformerLens name, such as `blocks.7.hook_resid_post`.

        Raises:
            UsageError: TransformerLens has no name for this tensor.
        """
        if self.kind == "embed":
            return "blocks.0.hook_resid_pre"
        if not self.facts.transformer_lens:
            raise UsageError(f"{self}: TransformerLens has no name for this tensor")
        return f"blocks.{self.layer}.{self.facts.transformer_lens[0]}"


# What a caller may give where a site is meant: the site, or a name of it.
SiteLike = Site | str
# In a dataclass that makes a site of a name: a name may be given, a site is what stands there.
if TYPE_CHECKING:
    GivenSite = Site
else:
    GivenSite = Site | str
Value = TypeVar("Value")
SiteMapping = Mapping[Site, Value] | Mapping[str, Value]


class BySite(dict[Site, Value]):
    """Values by site, in some order. A name of a site finds its value too: `values["resid_post.7"]`."""

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        return (f"{site}: {brief(value)}" for site, value in self.items())

    if TYPE_CHECKING:

        def __getitem__(self, site: SiteLike, /) -> Value: ...

    def __missing__(self, site: object) -> Value:
        if isinstance(site, str) and (named := Site.parse(site)) in self:
            return self[named]
        raise KeyError(site)


def by_site(values: SiteMapping[Value]) -> Mapping[Site, Value]:
    """The values by their sites: `values` itself where no key is a name.

    Raises:
        UsageError: a key that names no site, or two that name the same one.
    """
    found = BySite((Site.of(site), value) for site, value in values.items())
    if len(found) < len(values):
        raise UsageError(f"sites: each once expected, found two names of one site in {', '.join(map(str, values))}")
    return values if all(isinstance(site, Site) for site in values) else found  # type: ignore[return-value]
