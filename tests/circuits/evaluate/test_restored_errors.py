"""Exact errors in one place at a time, against hooks written out by hand."""

import pytest
import torch
from circuit_lab import all_nodes, differences, random_dictionary, sites_of

from gossamer.circuits.ablation import Ablation, group_rows
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.evaluate.restored_errors import restored_errors
from gossamer.circuits.splice import Splice
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.replacement.replacement_model import ErrorPolicy
from gossamer.tasks.task import Task

SITES = sites_of("resid_post.1", "mlp_out.2")


def evaluator_of(model: LanguageModel, task: Task, errors: ErrorPolicy) -> Evaluator:
    dictionaries = {site: random_dictionary(site, seed=seed) for seed, site in enumerate(SITES)}
    ablation = Ablation.measure(model, dictionaries, task, errors=errors)
    return Evaluator(Splice.of(model, dictionaries, task.test, ablation, all_nodes(dictionaries), batch_size=3))


def by_hand(evaluator: Evaluator, place: Site | None, role: str | None) -> torch.Tensor:
    splice, clean = evaluator.splice, evaluator.splice.examples.clean
    chosen = clean.roles >= 0 if role is None else clean.roles == splice.nodes.roles.index(role)

    def edit(site: Site, x: torch.Tensor) -> torch.Tensor:
        dictionary, mean = splice.dictionaries[site], splice.ablation.sites[site].error
        out = dictionary.reconstruct(x, dictionary.encode_dense(x))
        out = out if mean is None else out + group_rows(mean, clean.ablation_groups)
        replaced = (clean.roles >= 0) & ~(chosen if place in (None, site) else torch.zeros_like(chosen))
        return torch.where(replaced.unsqueeze(-1), out, x)

    with torch.no_grad(), splice.model.edit({site: lambda x, site=site: edit(site, x) for site in SITES}):
        return differences(splice.model.logits(clean.tokens, at=clean.answer_position), splice.examples)


@pytest.mark.parametrize("errors", ["mean", "drop"])
def test_every_place_by_hand(model: LanguageModel, task: Task, errors: ErrorPolicy) -> None:
    evaluator = evaluator_of(model, task, errors)
    found = restored_errors(evaluator)
    roles = sorted({task.role_names[role] for role in task.test.clean.roles.unique().tolist() if role >= 0})
    assert {(one.site, one.role) for one in found} == {
        (site, role) for site in (*SITES, None) for role in (*roles, None)
    }
    own = evaluator.full.prompt_metrics.metric.double().mean()
    for one in found:
        expected = (by_hand(evaluator, one.site, one.role).double().mean() / own).item()
        assert one.faithfulness.value == pytest.approx(expected, rel=1e-5), one
    # Behind the last layer only the answer position counts, so that many of mlp_out.2's places change nothing.
    assert len({round(one.faithfulness.value, 4) for one in found}) > len(roles) + 2
    everywhere = found[-1]
    assert (everywhere.site, everywhere.role) == (None, None)
    assert everywhere.faithfulness.value == pytest.approx(1.0, abs=1e-6)
    assert everywhere.kl == pytest.approx(0.0, abs=1e-6)
    assert repr(everywhere).startswith("RestoredError(all sites at all tokens")


def test_errors_that_are_kept_need_no_restoring(model: LanguageModel, task: Task) -> None:
    assert restored_errors(evaluator_of(model, task, "keep")) == ()
