"""Names of places in the network that can be read and edited."""

import re
from dataclasses import dataclass
from functools import total_ordering

from gossamer.errors import UsageError

# In the order in which one layer computes them.
_IN_LAYER = ("resid_pre", "q", "k", "v", "pattern", "z", "attn_out", "resid_mid", "mlp_in", "mlp_out", "resid_post")
KINDS = ("embed", *_IN_LAYER)

_OURS = re.compile(rf"({'|'.join(_IN_LAYER)})\.(\d+)")
_TRANSFORMER_LENS = re.compile(r"blocks\.(\d+)\.(.+)")
_TRANSFORMER_LENS_NAMES = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "ln2.hook_normalized": "mlp_in",
    "attn.hook_q": "q",
    "attn.hook_rot_q": "q",
    "attn.hook_k": "k",
    "attn.hook_rot_k": "k",
    "attn.hook_v": "v",
    "attn.hook_pattern": "pattern",
    "attn.hook_z": "z",
}
# The first name of a kind is the one that is printed.
_TO_TRANSFORMER_LENS = {kind: name for name, kind in reversed(_TRANSFORMER_LENS_NAMES.items())}
_HUGGING_FACE = re.compile(r"(?:(?:model|language_model|transformer|gpt_neox)\.)*(?:layers|h)\.(\d+)(?:\.(\w+))?")
_HUGGING_FACE_NAMES = {
    None: "resid_post",
    "mlp": "mlp_out",
    "attn": "attn_out",
    "self_attn": "attn_out",
    "attention": "attn_out",
}


@total_ordering
@dataclass(frozen=True)
class Site:
    """One place in the residual network. Sites sort in the order in which a forward pass reaches them.

    ==========  =================================================================  =======================
    kind        what stands there                                                  shape
    ==========  =================================================================  =======================
    embed       what enters the first block (token + position, scaled)             batch pos d_model
    resid_pre   the residual stream before a layer                                 batch pos d_model
    resid_mid   the stream between attention and MLP (not in parallel blocks)      batch pos d_model
    resid_post  the stream after a layer                                           batch pos d_model
    attn_out    what attention adds to the stream (after Gemma's post-norm)        batch pos d_model
    mlp_in      what enters the MLP, after its norm                                batch pos d_model
    mlp_out     what the MLP adds to the stream (after Gemma's post-norm)          batch pos d_model
    z           head outputs side by side, before the output projection            batch pos head*d_head
    q, k        queries and keys as they enter the dot product (after any rotary   batch pos (kv)head d_head
                embedding and query/key norm)
    v           values, before they are repeated for grouped queries               batch pos kv_head d_head
    pattern     attention probabilities                                            batch head query key
    ==========  =================================================================  =======================

    Attributes:
        kind: one of `KINDS`.
        layer: index of the layer, from 0; None for `embed`.

    Raises:
        UsageError: the kind is unknown, or the layer is missing, negative or out of place.
    """

    kind: str
    layer: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"site kind {self.kind!r}: expected one of {', '.join(KINDS)}")
        if (self.kind == "embed") != (self.layer is None):
            raise UsageError(f"site {self.kind}: expected {'no layer' if self.kind == 'embed' else 'a layer'}")
        if self.layer is not None and self.layer < 0:
            raise UsageError(f"site {self.kind}: expected a layer from 0, found {self.layer}")

    @classmethod
    def parse(cls, text: str) -> "Site":
        """The site that `text` names.

        Accepted are gossamer's names (`resid_post.7`), TransformerLens names (`blocks.7.hook_resid_post`; `hook_q` and
        `hook_rot_q` both mean the rotated query) and Hugging Face module paths, which mean what the module puts out
        (`model.layers.7` is `resid_post.7`, `transformer.h.3.mlp` is `mlp_out.3`).

        Raises:
            UsageError: the text names no site; the message lists the kinds.
        """
        text = text.strip()
        if text in ("embed", "hook_embed"):
            return cls("embed")
        if found := _OURS.fullmatch(text):
            return cls(found[1], int(found[2]))
        found = _TRANSFORMER_LENS.fullmatch(text)
        if found and found[2] in _TRANSFORMER_LENS_NAMES:
            return cls(_TRANSFORMER_LENS_NAMES[found[2]], int(found[1]))
        found = _HUGGING_FACE.fullmatch(text)
        if found and found[2] in _HUGGING_FACE_NAMES:
            return cls(_HUGGING_FACE_NAMES[found[2]], int(found[1]))
        raise UsageError(
            f"{text!r} is no site: expected embed or KIND.LAYER with KIND one of {', '.join(_IN_LAYER)}, "
            f"such as resid_post.7 (or blocks.7.hook_resid_post, or model.layers.7)"
        )

    def __str__(self) -> str:
        return self.kind if self.layer is None else f"{self.kind}.{self.layer}"

    def __lt__(self, other: "Site") -> bool:
        return self.depth < other.depth

    @property
    def depth(self) -> int:
        """Place in execution order: smaller is earlier, unique to each site."""
        if self.layer is None:
            return -1
        return self.layer * len(_IN_LAYER) + _IN_LAYER.index(self.kind)

    @property
    def transformer_lens(self) -> str:
        """The TransformerLens name, such as `blocks.7.hook_resid_post`."""
        if self.layer is None:
            return "hook_embed"
        return f"blocks.{self.layer}.{_TO_TRANSFORMER_LENS[self.kind]}"
