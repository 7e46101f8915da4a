"""Site names: ours, TransformerLens', Hugging Face's; order; refusals."""

import pytest

from gossamer.errors import UsageError
from gossamer.model import KINDS, Site

ALL = [Site("embed"), *(Site(kind, layer) for layer in (0, 3, 11) for kind in KINDS if kind != "embed")]


@pytest.mark.parametrize("site", ALL, ids=str)
def test_names_round_trip(site):
    assert Site.parse(str(site)) == site
    assert Site.parse(site.transformer_lens) == site


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("blocks.7.hook_resid_post", "resid_post.7"),
        ("blocks.3.attn.hook_z", "z.3"),
        ("blocks.3.attn.hook_pattern", "pattern.3"),
        ("blocks.0.attn.hook_rot_q", "q.0"),
        ("blocks.3.ln2.hook_normalized", "mlp_in.3"),
        ("hook_embed", "embed"),
        ("model.layers.7", "resid_post.7"),
        ("layers.7", "resid_post.7"),
        ("transformer.h.10", "resid_post.10"),
        ("gpt_neox.layers.2.attention", "attn_out.2"),
        ("model.language_model.layers.2.mlp", "mlp_out.2"),
        ("model.layers.3.self_attn", "attn_out.3"),
        ("  resid_pre.0 ", "resid_pre.0"),
    ],
)
def test_foreign_names(text, expected):
    assert str(Site.parse(text)) == expected


@pytest.mark.parametrize(
    "text", ["", "resid_post", "resid_post.-1", "resid.3", "blocks.3.hook_resid", "layers.3.norm", "embed.0", "z.x"]
)
def test_unknown_names_are_refused_with_the_kinds(text):
    with pytest.raises(UsageError, match="resid_pre, q, k, v, pattern, z, attn_out") as raised:
        Site.parse(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("kind", "layer"), [("resid", 0), ("embed", 0), ("z", None), ("z", -1)])
def test_impossible_sites_cannot_be_made(kind, layer):
    with pytest.raises(UsageError):
        Site(kind, layer)


def test_order_is_execution_order():
    one = Site("resid_pre", 1)
    assert sorted([one, Site("embed"), Site("resid_post", 0), Site("attn_out", 0)])[0] == Site("embed")
    assert Site("resid_post", 0) < one < Site("q", 1) < Site("z", 1) < Site("attn_out", 1) < Site("mlp_out", 1)
    assert len({site.depth for site in ALL}) == len(ALL)
    assert one >= Site("embed")
