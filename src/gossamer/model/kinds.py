"""The kinds of sites: one row for each, in the order in which a forward pass reaches them."""

from dataclasses import dataclass

from gossamer.display import short_repr


@dataclass(frozen=True)
class SiteKind:
    """What is true of every site of one kind, whatever the model.

    Attributes:
        name: as in `resid_post.7`.
        axes: of its values. The last one says the width: d_model, d_head, head*d_head (heads side by side), one, or
            key (as wide as the prompt is long).
        transformer_lens: what follows `blocks.L.` in TransformerLens; only names under which its hooks hold the very
            same tensor, the one that is printed first.
        hugging_face: what follows the layer in the path of a module that puts it out; "" is the layer itself.
        per_layer: whether each layer has one.
        stream: whether it is the residual stream at one moment.
        added: whether it is what is added to the stream.
        inside_attention: whether it is read inside the attention function, where no module puts it out.
        resumable: whether the rest of the model can be run from it.
        norm_scale: whether it is the factor by which a norm multiplies what it has centred.
    """

    name: str
    axes: tuple[str, ...] = ("batch", "pos", "d_model")
    transformer_lens: tuple[str, ...] = ()
    hugging_face: tuple[str, ...] = ()
    per_layer: bool = True
    stream: bool = False
    added: bool = False
    inside_attention: bool = False
    resumable: bool = False
    norm_scale: bool = False

    __repr__ = short_repr

    @property
    def in_stream(self) -> bool:
        """Whether its directions are directions of the residual stream: a state of it, or what is added to it."""
        return self.stream or self.added

    @property
    def residual(self) -> bool:
        """Whether it is the residual stream before, inside or after a layer."""
        return self.stream and self.per_layer

    @property
    def holds_dictionary(self) -> bool:
        """Whether a sparse dictionary can read and replace it: one vector a token."""
        return self.axes in (_STREAM, _HEADS)


_STREAM = ("batch", "pos", "d_model")
_HEADS = ("batch", "pos", "head*d_head")
_QUERIES, _KEYS = ("batch", "pos", "head", "d_head"), ("batch", "pos", "kv_head", "d_head")
_PAIRS = ("batch", "head", "query", "key")
_ONE = ("batch", "pos", "one")

_TABLE = (
    SiteKind("embed", per_layer=False, stream=True),
    SiteKind("resid_pre", transformer_lens=("hook_resid_pre",), stream=True, resumable=True),
    SiteKind("attn_norm_scale", _ONE, norm_scale=True),
    SiteKind("attn_normalized", transformer_lens=("ln1.hook_normalized",)),
    SiteKind("attn_in", transformer_lens=("attn.hook_in",)),
    SiteKind("q_proj", _QUERIES, transformer_lens=("attn.hook_q",)),
    SiteKind("k_proj", _KEYS, transformer_lens=("attn.hook_k",)),
    SiteKind("q", _QUERIES, transformer_lens=("attn.hook_rot_q",), inside_attention=True),
    SiteKind("k", _KEYS, transformer_lens=("attn.hook_rot_k",), inside_attention=True),
    SiteKind("v", _KEYS, transformer_lens=("attn.hook_v",), inside_attention=True),
    SiteKind("scores", _PAIRS, transformer_lens=("attn.hook_attn_scores",), inside_attention=True),
    SiteKind("pattern", _PAIRS, transformer_lens=("attn.hook_pattern",), inside_attention=True),
    SiteKind("z", _HEADS, transformer_lens=("attn.hook_z",)),
    SiteKind("attn_post_norm_scale", _ONE, norm_scale=True),
    SiteKind(
        "attn_out",
        transformer_lens=("hook_attn_out",),
        hugging_face=("self_attn", "attn", "attention"),
        added=True,
    ),
    SiteKind("resid_mid", transformer_lens=("hook_resid_mid",), stream=True),
    SiteKind("mlp_norm_scale", _ONE, norm_scale=True),
    SiteKind("mlp_normalized", transformer_lens=("ln2.hook_normalized",)),
    SiteKind("mlp_in", transformer_lens=("mlp.hook_in",)),
    SiteKind("mlp_post_norm_scale", _ONE, norm_scale=True),
    SiteKind("mlp_out", transformer_lens=("hook_mlp_out",), hugging_face=("mlp",), added=True),
    SiteKind("resid_post", transformer_lens=("hook_resid_post",), hugging_face=("",), stream=True, resumable=True),
    SiteKind("final_norm_scale", _ONE, per_layer=False, norm_scale=True),
)

SITE_KINDS = {kind.name: kind for kind in _TABLE}
KINDS = tuple(SITE_KINDS)


def named(**facts: bool) -> tuple[str, ...]:
    """Names of the kinds of which all `facts` are true, such as `named(resumable=True)`."""
    return tuple(kind.name for kind in _TABLE if all(getattr(kind, fact) is wanted for fact, wanted in facts.items()))
