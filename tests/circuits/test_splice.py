"""The spliced network against its definition written out token by token, in float64."""

from dataclasses import replace

import pytest
import torch
from circuit_lab import (
    LATENTS,
    PREFIX,
    ROLES,
    SLOT_ROWS,
    all_nodes,
    by_hand,
    grids_of,
    mirror_dictionary,
    random_ablation,
    random_choice,
    random_dictionary,
    random_mask,
    sites_of,
)
from tiny_splice import tiny_model
from torch import nn

from gossamer.circuits.ablation import Ablation
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.splice import Splice
from gossamer.dictionary import Dictionary
from gossamer.errors import NotFiniteError, UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.replacement.replacement_model import frozen_weights
from gossamer.tasks.prompt_pairs import TokenizedPrompts
from gossamer.tasks.task import Task
from gossamer.tokens import Tokens

SITES = ("resid_post.0", "attn_out.1", "resid_post.1")
EXACT = {"rtol": 1e-10, "atol": 1e-10}
NO_MASK = torch.zeros(0, dtype=torch.float64)


def make_splice(
    model: LanguageModel,
    task: Task,
    names: tuple[str, ...] = SITES,
    *,
    kind: str = "mean",
    errors: str = "mean",
    non_nodes: str = "ablated",
    architecture: str = "relu",
    **conventions: object,
) -> Splice:
    """Random dictionaries, random ablation values, every node."""
    sites = sites_of(*names)
    dictionaries = {
        site: random_dictionary(site, architecture, seed=seed, **conventions) for seed, site in enumerate(sites)
    }
    ablation = random_ablation(sites, kind, errors)
    return Splice.of(
        model, dictionaries, task.test, ablation, all_nodes(dictionaries), non_nodes=non_nodes, batch_size=4
    )


def ones(nodes: Nodes) -> torch.Tensor:
    return torch.ones(len(nodes), dtype=torch.float64)


def check(splice: Splice, nodes: Nodes, non_nodes: str) -> None:
    """The network over `nodes` alone, over all nodes, and by hand: one result."""
    mask, background = random_mask(nodes), 1.0 if non_nodes == "kept" else 0.0
    found = splice.with_nodes(nodes, non_nodes=non_nodes)(mask)
    grids = grids_of(nodes, mask, splice.dictionaries, background)
    torch.testing.assert_close(found, by_hand(splice, grids), **EXACT)
    everywhere = torch.full((len(splice.nodes),), background, dtype=torch.float64)
    everywhere[splice.nodes.find(nodes.keys())] = mask
    torch.testing.assert_close(splice.with_nodes(splice.nodes, non_nodes=non_nodes)(everywhere), found, **EXACT)
    opposite = grids_of(nodes, mask, splice.dictionaries, 1 - background)
    assert (by_hand(splice, opposite) - found).abs().max() > 1e-3


@pytest.mark.parametrize("non_nodes", ["ablated", "kept"])
@pytest.mark.parametrize(
    ("architecture", "conventions"),
    [
        ("relu", {"subtract_b_dec": True}),
        ("jumprelu", {}),
        ("topk", {}),
        ("batchtopk", {}),
        ("gated", {}),
        ("relu", {"normalisation": "layer_norm"}),
        ("topk", {"normalisation": "layer_norm"}),
        ("gated", {"normalisation": "constant_norm_rescale"}),
        ("jumprelu", {"normalisation": "centre", "subtract_b_dec": True}),
    ],
)
def test_the_nodes_columns_alone_give_the_network_by_hand(
    model: LanguageModel, task: Task, architecture: str, conventions: dict[str, object], non_nodes: str
) -> None:
    splice = make_splice(model, task, ("resid_post.0", "resid_post.1"), architecture=architecture, **conventions)
    check(splice, random_choice(splice.nodes, 40), non_nodes)


@pytest.mark.parametrize("names", [SITES, ("resid_post.1", "resid_post.2")])
@pytest.mark.parametrize("errors", ["mean", "drop", "keep"])
@pytest.mark.parametrize("kind", ["mean", "zero", "resample"])
def test_every_ablation_and_error_policy_by_hand(
    model: LanguageModel, task: Task, kind: str, errors: str, names: tuple[str, ...]
) -> None:
    splice = make_splice(model, task, names, kind=kind, errors=errors, normalisation="layer_norm")
    check(splice, random_choice(splice.nodes, 60), "ablated")
    check(splice, random_choice(splice.nodes, 60), "kept")


@pytest.mark.parametrize(
    "names", [("resid_pre.0",), ("resid_mid.0", "mlp_out.0"), ("z.1", "mlp_in.1"), ("resid_post.2",)]
)
def test_the_first_dictionary_may_stand_anywhere_in_a_layer(
    model: LanguageModel, task: Task, names: tuple[str, ...]
) -> None:
    splice = make_splice(model, task, names)
    check(splice, random_choice(splice.nodes, 40), "ablated")


def test_nodes_at_one_site_only_leave_the_others_ablated(model: LanguageModel, task: Task) -> None:
    splice = make_splice(model, task)
    check(splice, splice.nodes.select(splice.nodes.site == 1), "ablated")


def test_the_exact_error_makes_the_unmasked_network_the_model(model: LanguageModel, task: Task) -> None:
    splice = make_splice(model, task, errors="keep", architecture="topk", normalisation="layer_norm")
    with torch.no_grad():
        own = model.logits(task.test.clean.tokens, at=task.test.clean.answer_position)
    kept = splice.with_nodes(splice.nodes, non_nodes="kept")(ones(splice.nodes))
    assert torch.equal(kept, splice.full().logits())
    assert torch.equal(splice.with_nodes(splice.nodes.none(), non_nodes="kept")(NO_MASK), splice.full().logits())
    torch.testing.assert_close(kept, own, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(splice(ones(splice.nodes)), own, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("architecture", ["relu", "topk", "gated"])
def test_unmasked_dictionaries_are_reconstructions_at_each_site(
    model: LanguageModel, task: Task, architecture: str
) -> None:
    splice = make_splice(model, task, errors="drop", architecture=architecture, normalisation="layer_norm")
    examples = splice.examples
    through = (examples.clean.roles < 0)[..., None]
    edits = {
        site: (lambda x, found=found: torch.where(through, x, found(x))) for site, found in splice.dictionaries.items()
    }
    with torch.no_grad(), model.edit(edits):
        expected = model.logits(examples.clean.tokens, at=examples.clean.answer_position)
    for nodes, non_nodes in ((splice.nodes.none(), "kept"), (splice.nodes, "kept"), (splice.nodes, "ablated")):
        torch.testing.assert_close(splice.with_nodes(nodes, non_nodes=non_nodes)(ones(nodes)), expected, **EXACT)
    assert (splice.full().logits() - expected).abs().max() > 1e-2


def test_nothing_kept_with_measured_means_is_the_stream_replaced_by_its_slot_means(
    model: LanguageModel, task: Task
) -> None:
    sites = sites_of("resid_post.0", "mlp_out.1")
    dictionaries = {site: random_dictionary(site, "jumprelu", seed=seed) for seed, site in enumerate(sites)}
    ablation = Ablation.measure(model, dictionaries, task)
    splice = Splice.of(model, dictionaries, task.test, ablation, all_nodes(dictionaries))
    other = task.train.counterfactual
    with torch.no_grad():
        streams = model.capture(other.tokens, sites)
    clean = task.test.clean

    def averaged(site: Site, x: torch.Tensor) -> torch.Tensor:
        out = x.clone()
        for group in SLOT_ROWS[SLOT_ROWS >= 0].tolist():
            out[clean.ablation_groups == group] = streams[site][other.ablation_groups == group].mean(dim=0)
        return out

    with torch.no_grad(), model.edit({site: (lambda x, site=site: averaged(site, x)) for site in sites}):
        expected = model.logits(clean.tokens, at=clean.answer_position)
    found = splice.with_nodes(splice.nodes.none())(NO_MASK)
    # The measured means are float32.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (splice.full().logits() - expected).abs().max() > 1e-2


def test_bos_and_padding_pass_through_and_everything_else_is_replaced(model: LanguageModel, task: Task) -> None:
    splice = make_splice(model, task, ("resid_post.0",))
    clean = task.test.clean
    with torch.no_grad():
        before = model.capture(clean.tokens, [Site.parse("resid_post.0")])[Site.parse("resid_post.0")]
    after: list[torch.Tensor] = []
    with model.edit({Site.parse("resid_pre.1"): lambda x: after.append(x.clone()) or x}):
        splice(torch.zeros(len(splice.nodes), dtype=torch.float64))
    through = clean.roles < 0
    assert through.any(dim=1).all()
    assert torch.equal(after[0][through], before[through])
    assert ((after[0] - before).abs().amax(dim=-1) > 1e-3)[~through].all()


def test_each_dictionary_reads_the_stream_that_the_earlier_ones_changed(model: LanguageModel, task: Task) -> None:
    splice = make_splice(model, task)
    nodes = random_choice(splice.nodes, 50)
    mask, reads = random_mask(nodes), {}
    by_hand(splice, grids_of(nodes, mask, splice.dictionaries, 0.0), reads)
    found = splice.with_nodes(nodes).streams(mask)
    with torch.no_grad():
        own = model.capture(task.test.clean.tokens, list(splice.dictionaries))
    real = task.test.clean.tokens.mask
    for site in splice.dictionaries:
        torch.testing.assert_close(found[site][real], reads[site][real], **EXACT)
    first, *later = splice.dictionaries
    torch.testing.assert_close(found[first][real], own[first][real], **EXACT)
    assert all((found[site] - own[site])[real].abs().max() > 1e-2 for site in later)


@pytest.mark.parametrize("kind", ["mean", "resample"])
def test_batch_composition_and_padding_do_not_matter(model: LanguageModel, task: Task, kind: str) -> None:
    splice = make_splice(model, task, kind=kind)
    mask = random_mask(splice.nodes)
    together = splice(mask)
    for row in range(len(task.test)):
        torch.testing.assert_close(splice(mask, torch.tensor([row])), together[[row]], **EXACT)
    torch.testing.assert_close(splice(mask, slice(2, 7)), together[2:7], **EXACT)
    shuffled = torch.tensor([5, 0, 3])
    torch.testing.assert_close(splice(mask, shuffled), together[shuffled], **EXACT)

    def wider(found: TokenizedPrompts) -> TokenizedPrompts:
        ids = torch.where(found.tokens.mask, found.tokens.ids, PREFIX)
        tokens = Tokens(nn.functional.pad(ids, (0, 3), value=PREFIX), nn.functional.pad(found.tokens.mask, (0, 3)))
        roles, ablation_groups = (
            nn.functional.pad(values, (0, 3), value=-1) for values in (found.roles, found.ablation_groups)
        )
        return TokenizedPrompts(tokens, roles, ablation_groups, found.answer_position)

    padded = replace(task.test, clean=wider(task.test.clean), counterfactual=wider(task.test.counterfactual))
    other = Splice.of(model, splice.dictionaries, padded, splice.ablation, splice.nodes)
    torch.testing.assert_close(other(mask), together, **EXACT)


def test_prompts_that_are_equal_behind_the_first_dictionary_run_once(model: LanguageModel, task: Task) -> None:
    """With no node at the first site a template's prompts are; with gradients all run, to the same outputs."""
    splice = make_splice(model, task, ("resid_post.0", "resid_post.1"))
    later = splice.with_nodes(splice.nodes.select(splice.nodes.site == 1))
    mask, rows = random_mask(later.nodes), []

    def seen(x: torch.Tensor) -> torch.Tensor:
        rows.append(len(x))
        return x

    with model.edit({model.sites("resid_post")[-1]: seen}):
        expected = later(mask)
        with torch.no_grad():
            found = later(mask)
            splice(random_mask(splice.nodes))
    torch.testing.assert_close(found, expected, **EXACT)
    assert rows == [len(task.test), 2, len(task.test)]


@pytest.mark.parametrize("kind", ["mean", "resample"])
def test_over_and_on_share_what_was_computed_and_agree(
    model: LanguageModel, task: Task, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    splice = make_splice(model, task, kind=kind)
    nodes, rows = random_choice(splice.nodes, 30), torch.tensor([6, 1, 3])
    mask = random_mask(nodes)
    fresh = Splice.of(model, splice.dictionaries, task.test, splice.ablation, nodes)(mask)
    chosen = Splice.of(model, splice.dictionaries, task.test.select(rows), splice.ablation, nodes)(mask)
    first = splice.with_nodes(nodes)
    expected = first(mask)
    real = model.capture

    def resumed(*arguments: object, start: object = None, past: object = None) -> object:
        assert start is not None, "the layers before the first dictionary ran again"
        return real(*arguments, start=start, past=past)

    monkeypatch.setattr(model, "capture", resumed)
    assert torch.equal(splice.with_nodes(nodes)(mask), expected)
    torch.testing.assert_close(first(mask), fresh, **EXACT)
    some = splice.select(rows).with_nodes(nodes)
    assert len(some.examples) == 3
    torch.testing.assert_close(some(mask), chosen, **EXACT)
    torch.testing.assert_close(some(mask), fresh[rows], **EXACT)
    assert some.with_nodes(nodes, non_nodes="kept").non_nodes == "kept"
    assert splice.with_nodes(nodes).non_nodes == "ablated"


@pytest.mark.parametrize("non_nodes", ["ablated", "kept"])
@pytest.mark.parametrize(
    ("kind", "errors", "site"),
    [("mean", "mean", "resid_post.2"), ("resample", "keep", "resid_mid.1"), ("zero", "drop", "resid_post.1")],
)
def test_beyond_a_site_the_network_goes_on_from_what_reaches_it(
    model: LanguageModel, task: Task, kind: str, errors: str, site: str, non_nodes: str
) -> None:
    names = ("resid_post.0", "resid_mid.1", "resid_post.1", "resid_post.2")
    splice = make_splice(model, task, names, kind=kind, errors=errors)
    network = splice.with_nodes(random_choice(splice.nodes, 60), non_nodes=non_nodes)
    mask = random_mask(network.nodes)
    later, kept = network.resume_from(Site.parse(site), mask)
    # Nothing can be resumed inside a layer: the network begins one dictionary earlier.
    begun = names[max(0, names.index(site) - (site == "resid_mid.1"))]
    assert str(next(iter(later.dictionaries))) == begun
    assert later.nodes.keys() == network.nodes.select(kept).keys()
    assert {str(later.nodes.sites[site]) for site in later.nodes.site.tolist()} == set(names[names.index(begun) :])
    torch.testing.assert_close(later(mask[kept]), network(mask), **EXACT)
    changed = torch.where(network.nodes.site >= names.index(begun), mask.flip(0), mask)
    torch.testing.assert_close(later(changed[kept], slice(2, 5)), network(changed)[2:5], **EXACT)
    assert (network(changed) - network(mask)).abs().max() > 1e-6


def test_beyond_the_first_site_is_the_whole_network(model: LanguageModel, task: Task) -> None:
    splice = make_splice(model, task)
    found, kept = splice.resume_from(splice.nodes.sites[0], ones(splice.nodes))
    assert found is splice
    assert kept.tolist() == list(range(len(splice.nodes)))


def test_gradients_in_the_mask_are_right(model: LanguageModel, task: Task) -> None:
    splice = make_splice(model, task, kind="resample", errors="keep", normalisation="layer_norm")
    nodes = random_choice(splice.nodes, 5)
    for non_nodes in ("ablated", "kept"):
        network = splice.with_nodes(nodes, non_nodes=non_nodes)
        mask = random_mask(nodes).requires_grad_()
        assert torch.autograd.gradcheck(lambda m, network=network: network(m, slice(0, 2)), mask, fast_mode=True)


def test_frozen_leaves_requires_grad_as_it_was_found() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    module[0].weight.requires_grad_(False)
    before = [parameter.requires_grad for parameter in module.parameters()]
    assert sorted(set(before)) == [False, True]
    inside: list[bool] = []

    def interrupted() -> None:
        with frozen_weights(module):
            inside.extend(parameter.requires_grad for parameter in module.parameters())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert inside == [False] * 4
    assert [parameter.requires_grad for parameter in module.parameters()] == before


def test_the_models_weights_keep_their_flags_and_get_no_gradient(model: LanguageModel, task: Task) -> None:
    splice = make_splice(model, task)
    before = [parameter.requires_grad for parameter in model.hf.parameters()]
    assert any(before)
    mask = random_mask(splice.nodes).requires_grad_()
    splice(mask).sum().backward()
    assert mask.grad is not None
    assert mask.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in model.hf.parameters())
    assert [parameter.requires_grad for parameter in model.hf.parameters()] == before


def test_dictionaries_in_bfloat16_run(model: LanguageModel, task: Task) -> None:
    sites = sites_of("resid_post.0", "resid_post.1")
    exact = {site: mirror_dictionary(site, seed=seed) for seed, site in enumerate(sites)}
    ablation = random_ablation(sites, n_latents=32)
    nodes = all_nodes(exact)
    chosen, mask = random_choice(nodes, 100), torch.ones(100)
    expected = Splice.of(model, exact, task.test, ablation, nodes).with_nodes(chosen)(mask)
    for site in sites:
        exact[site].to(torch.bfloat16)
    splice = Splice.of(model, exact, task.test, ablation, nodes)
    for non_nodes in ("ablated", "kept"):
        leaf = mask.clone().requires_grad_()
        logits = splice.with_nodes(chosen, non_nodes=non_nodes)(leaf)
        assert logits.dtype == torch.float64
        gradient = torch.autograd.grad(logits.sum(), leaf)[0]
        assert torch.isfinite(gradient).all()
    found = splice.with_nodes(chosen)(mask)
    assert (found - expected).norm() / expected.norm() < 0.05


def test_a_site_whose_nodes_are_not_given_is_refused(model: LanguageModel, task: Task) -> None:
    splice = make_splice(model, task)
    others = make_splice(model, task, ("resid_post.0", "resid_post.2"))
    with pytest.raises(UsageError, match=r"expected \(resid_post.0, attn_out.1, resid_post.1\).*resid_post.2"):
        splice.with_nodes(others.nodes)
    with pytest.raises(UsageError, match="found none"):
        Splice.of(model, {}, task.test, splice.ablation, splice.nodes)


def test_dictionaries_out_of_order_are_refused(model: LanguageModel, task: Task) -> None:
    with pytest.raises(UsageError, match="in execution order"):
        make_splice(model, task, ("resid_post.1", "resid_post.0"))


def test_a_transcoder_cannot_be_spliced(model: LanguageModel, task: Task) -> None:
    splice = make_splice(model, task)
    first = next(iter(splice.dictionaries))
    config = replace(splice.dictionaries[first].config, site_out=Site.parse("mlp_out.2"))
    dictionaries = {**splice.dictionaries, first: Dictionary(config, device="meta")}
    with pytest.raises(UsageError, match=f"found a transcoder from {first} to mlp_out.2"):
        Splice.of(model, dictionaries, task.test, splice.ablation, splice.nodes)


def test_the_embedding_cannot_be_spliced(model: LanguageModel, task: Task) -> None:
    with pytest.raises(UsageError, match="embed"):
        make_splice(model, task, ("embed",))


def test_a_stream_that_is_not_finite_names_its_site(task: Task) -> None:
    broken = tiny_model()
    broken.hf.transformer.h[0].mlp.c_proj.bias.data[2] = torch.nan
    splice = make_splice(broken, task, ("resid_post.0",))
    with pytest.raises(NotFiniteError, match=r"resid_post\.0"):
        splice(ones(splice.nodes))


def test_latents_are_values_and_their_distance_from_the_ablation_values(model: LanguageModel, task: Task) -> None:
    splice = make_splice(model, task)
    nodes = random_choice(splice.nodes, 10)
    some = splice.with_nodes(nodes)
    clean, rows = task.test.clean, torch.tensor([3, 4])
    with torch.no_grad():
        own = model.capture(clean.tokens, list(splice.dictionaries))
    found = some.latents(rows)
    for index, site in enumerate(splice.dictionaries):
        columns = sorted(set(nodes.latent[nodes.site == index].tolist()))
        values, changes = found[site]
        assert values.shape == (2, 7, len(columns))
        for at, row in enumerate(rows.tolist()):
            for token in torch.nonzero(clean.roles[row] >= 0).squeeze(1).tolist():
                latents = splice.dictionaries[site].encode_dense(own[site][row, token])[columns]
                ablated = splice.ablation.sites[site].latents[clean.ablation_groups[row, token]][columns]
                torch.testing.assert_close(values[at, token], latents, **EXACT)
                torch.testing.assert_close(changes[at, token], latents - ablated, **EXACT)
    assert len(ROLES) * LATENTS * 3 == len(splice.nodes)


def test_counterfactuals_are_encoded_whole_once(
    model: LanguageModel, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    splice = make_splice(model, task, kind="resample")
    nodes, whole, real = random_choice(splice.nodes, 30), [], Dictionary.encode_dense

    def counted(self: Dictionary, x: torch.Tensor, columns: torch.Tensor | None = None) -> torch.Tensor:
        whole.append(columns is None)
        return real(self, x, columns)

    monkeypatch.setattr(Dictionary, "encode_dense", counted)
    network = splice.with_nodes(nodes)
    first = network(ones(nodes))
    # Eight prompts in batches of four at three sites.
    assert sum(whole) == 6
    whole.clear()
    torch.testing.assert_close(network(ones(nodes)), first, rtol=0, atol=0)
    rows = torch.tensor([5, 2])
    torch.testing.assert_close(network.select(rows)(ones(nodes)), first[rows], **EXACT)
    assert sum(whole) == 0
    assert len(whole) > 0
