"""The published recipe, step by step with Adam written out."""

import math

import pytest
import torch
from circuit_lab import all_nodes, random_ablation, random_dictionary, sites_of
from planted import Planted, planted

from gossamer.circuits.outputs import Outputs
from gossamer.circuits.reference import ReferenceSettings, reference_path
from gossamer.circuits.splice import Splice
from gossamer.errors import NotFiniteError
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.task import Task


@pytest.fixture(scope="module")
def known(model: LanguageModel) -> Planted:
    return planted(model)


@pytest.fixture(scope="module")
def two_sites(model: LanguageModel, task: Task) -> Splice:
    sites = sites_of("resid_post.1", "resid_post.2")
    dictionaries = {site: random_dictionary(site, seed=seed) for seed, site in enumerate(sites)}
    return Splice.of(model, dictionaries, task.train, random_ablation(sites), all_nodes(dictionaries))


def by_hand(splice: Splice, weight: float, settings: ReferenceSettings) -> torch.Tensor:
    """The mask parameters after all steps: loss and gradient in float64, Adam from its definition."""
    n, answers, wrongs = len(splice.nodes), splice.examples.answer, splice.examples.incorrect
    whole = splice.with_nodes(splice.nodes.none(), non_nodes="kept")
    mask = torch.ones(n, dtype=torch.float64)
    first, second = torch.zeros_like(mask), torch.zeros_like(mask)
    for step in range(settings.steps):
        rows = torch.tensor([(step * settings.batch_size + k) % 12 for k in range(settings.batch_size)])
        tau = settings.base ** (settings.final * step / settings.steps)
        leaf = mask.clone().requires_grad_()
        soft = 1 / (1 + torch.exp(-tau * leaf))
        ends = []
        for logits in (whole(mask[:0], rows), splice(soft, rows)):
            own = [logits[k, answers[row]] - logits[k, wrongs[row]] for k, row in enumerate(rows.tolist())]
            ends.append(torch.stack(own).sum() / len(rows))
        loss = (ends[0] - ends[1]).abs() + weight * soft.sum() / len(splice.dictionaries)
        gradient = torch.autograd.grad(loss, leaf)[0]
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        size = (second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
        mask = mask - settings.learning_rate * first / (1 - 0.9 ** (step + 1)) / size
    return mask


@pytest.mark.parametrize("weight", [0.0005, 0.003, 0.01])
def test_the_published_steps_by_hand(known: Planted, two_sites: Splice, weight: float) -> None:
    settings = ReferenceSettings(lambdas=(weight,), learning_rate=0.3, steps=9, batch_size=5)
    for splice in (known.splice, two_sites):
        expected = by_hand(splice, weight, settings)
        sure = expected.abs() > 1e-3
        found = torch.zeros(len(expected), dtype=torch.bool)
        found[reference_path(splice, settings).circuits[0]] = True
        assert torch.equal(found[sure], expected[sure] > 0)
        assert sure.double().mean() > 0.98
        assert 0 < found.sum() < len(expected)


def test_effects_of_either_sign_cancel_over_the_batch(known: Planted) -> None:
    # The published loss compares batch means: the latent that raises and lowers the answer in turn is lost.
    settings = ReferenceSettings(lambdas=(0.03,), learning_rate=0.1, steps=50, batch_size=12)
    path = reference_path(known.splice, settings)
    assert known.found(path.circuits[0]) == {key for key in known.keys if key.latent != 14}


def test_tau_rises_exponentially_and_batches_follow_the_order_of_the_prompts(
    known: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[float] = []
    rows: list[list[int]] = []
    real = Splice.outputs

    def watched(self: Splice, mask: torch.Tensor, chosen: torch.Tensor) -> Outputs:
        if len(mask):
            masks.append(mask[0].item())
            rows.append(chosen.tolist())
        return real(self, mask, chosen)

    monkeypatch.setattr(Splice, "outputs", watched)
    reference_path(known.splice, ReferenceSettings((0.1,), 0.0, steps=6, batch_size=5, base=5.0, final=1.2))
    assert rows == [[(5 * step + k) % 12 for k in range(5)] for step in range(6)]
    taus = [math.log(mask / (1 - mask)) for mask in masks]
    assert taus == pytest.approx([5 ** (1.2 * step / 6) for step in range(6)], rel=1e-4)


def test_the_published_temperature_ends_where_the_notebooks_end() -> None:
    settings = ReferenceSettings()
    assert settings.base**settings.final == pytest.approx(609, rel=0.01)
    assert list(settings.lambdas) == sorted(settings.lambdas)


def test_heavier_penalties_leave_smaller_circuits_and_the_path_falls(known: Planted) -> None:
    settings = ReferenceSettings(lambdas=(10.0, 0.0, 0.05), learning_rate=0.2, steps=20)
    path = reference_path(known.splice, settings)
    assert path.sizes == sorted(path.sizes, reverse=True)
    assert path.sizes[0] > path.sizes[1] > path.sizes[2] == 0
    assert path.method == "reference recipe"
    assert path.settings["lambdas"] == "(10.0, 0.0, 0.05)"
    assert set(path.settings) == {"lambdas", "learning_rate", "steps", "batch_size", "base", "final"}


def test_the_same_settings_give_the_same_circuits(known: Planted) -> None:
    settings = ReferenceSettings(lambdas=(0.002, 0.02), learning_rate=0.3, steps=8)
    one, other = (reference_path(known.splice, settings) for _ in range(2))
    assert [circuit.tolist() for circuit in one.circuits] == [circuit.tolist() for circuit in other.circuits]


def test_no_gradient_is_left_in_any_weight(model: LanguageModel) -> None:
    found = planted(model)
    for dictionary in found.splice.dictionaries.values():
        dictionary.requires_grad_(True)
    reference_path(found.splice, ReferenceSettings(lambdas=(0.01,), steps=2))
    weights = [*model.hf.parameters(), *(w for one in found.splice.dictionaries.values() for w in one.parameters())]
    assert all(weight.grad is None for weight in weights)


def test_a_loss_that_is_not_finite_is_refused(known: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Splice.outputs

    def broken(found: Outputs) -> Outputs:
        return Outputs(found.stream * torch.nan, found.unembed)

    monkeypatch.setattr(Splice, "outputs", lambda self, mask, rows: broken(real(self, mask, rows)))
    with pytest.raises(NotFiniteError, match=r"reference recipe: the loss became nan at step 0"):
        reference_path(known.splice, ReferenceSettings(lambdas=(0.01,), steps=2))
