"""Site names: ours, TransformerLens', Hugging Face's; order; refusals."""

import pytest

from gossamer.errors import UsageError
from gossamer.model import KINDS, SITE_KINDS, Site
from gossamer.model.kinds import named
from gossamer.model.site import by_site

LAYERED = [Site(kind, layer) for layer in (0, 3, 11) for kind in named(per_layer=True)]
ALL = [Site("embed"), *LAYERED, Site("final_norm_scale")]


@pytest.mark.parametrize("site", ALL, ids=str)
def test_names_round_trip(site):
    assert Site.parse(str(site)) == site
    if site.facts.transformer_lens:
        assert Site.parse(site.transformer_lens) == site


def test_where_transformer_lens_has_no_name():
    assert Site("embed").transformer_lens == "blocks.0.hook_resid_pre"  # the same tensor
    for site in (Site("final_norm_scale"), Site("mlp_norm_scale", 2)):
        with pytest.raises(UsageError, match=f"{site}: TransformerLens has no name"):
            site.transformer_lens  # noqa: B018 - reading it is what is refused


def test_names_of_other_tensors_are_refused():
    with pytest.raises(UsageError, match="before positions are added"):
        Site.parse("hook_embed")


def test_every_kind_says_what_it_is():
    assert named(resumable=True) == ("resid_pre", "resid_post")
    assert named(stream=True) == ("embed", "resid_pre", "resid_mid", "resid_post")
    assert named(added=True) == ("attn_out", "mlp_out")
    assert named(inside_attention=True) == ("q", "k", "v", "scores", "pattern")
    assert [kind for kind in KINDS if SITE_KINDS[kind].holds_dictionary] == [
        "embed", "resid_pre", "attn_normalized", "attn_in", "z", "attn_out", "resid_mid", "mlp_normalized", "mlp_in",
        "mlp_out", "resid_post",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("blocks.7.hook_resid_post", "resid_post.7"),
        ("blocks.3.attn.hook_z", "z.3"),
        ("blocks.3.attn.hook_pattern", "pattern.3"),
        ("blocks.0.attn.hook_rot_q", "q.0"),
        ("blocks.3.ln2.hook_normalized", "mlp_normalized.3"),
        ("blocks.3.mlp.hook_in", "mlp_in.3"),
        ("blocks.0.attn.hook_q", "q_proj.0"),
        ("blocks.2.attn.hook_attn_scores", "scores.2"),
        ("embed", "embed"),
        ("final_norm_scale", "final_norm_scale"),
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
    with pytest.raises(UsageError, match="q, k, v, scores, pattern, z, attn_post_norm_scale, attn_out") as raised:
        Site.parse(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("kind", "layer"), [("resid", 0), ("embed", 0), ("z", None), ("z", -1)])
def test_impossible_sites_cannot_be_made(kind, layer):
    with pytest.raises(UsageError):
        Site(kind, layer)


def test_order_is_execution_order():
    one = Site("resid_pre", 1)
    ends = [Site("final_norm_scale"), one, Site("embed"), Site("resid_post", 0)]
    assert (sorted(ends)[0], sorted(ends)[-1]) == (Site("embed"), Site("final_norm_scale"))
    assert Site("resid_post", 0) < one < Site("q", 1) < Site("z", 1) < Site("attn_out", 1) < Site("mlp_out", 1)
    assert len({site.depth for site in ALL}) == len(ALL)
    assert one >= Site("embed")


def test_a_name_will_do_where_a_site_is_meant():
    site = Site("resid_post", 7)
    assert Site.of(site) is site
    assert Site.of("resid_post.7") == Site.of("blocks.7.hook_resid_post") == Site.of("model.layers.7") == site
    with pytest.raises(UsageError, match=r"'resid_pots\.7' is no site: expected"):
        Site.of("resid_pots.7")


def test_values_by_site_are_found_by_name():
    first, second = Site("resid_post", 0), Site("z", 1)
    values = by_site({"blocks.0.hook_resid_post": 1, "z.1": 2})
    assert dict(values) == {first: 1, second: 2}
    assert (values["resid_post.0"], values[second]) == (1, 2)
    with pytest.raises(KeyError):
        values["z.2"]
    with pytest.raises(UsageError, match="is no site"):
        values["zz.1"]
    assert repr(values) == "BySite(resid_post.0: 1, z.1: 2)"
    plain = {first: 1}
    assert by_site(plain) is plain
    with pytest.raises(UsageError, match=r"two names of one site in z\.1, blocks\.1\.attn\.hook_z"):
        by_site({"z.1": 1, "blocks.1.attn.hook_z": 2})
