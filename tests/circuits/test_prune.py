"""Exact last steps on a network of which the circuit is known."""

from dataclasses import replace

import pytest
import torch
from circuit_lab import node_at
from planted import CHANGING, SITE, STEADY, TWIN, Planted, planted

from gossamer.batching import MemoryWarning
from gossamer.circuits.loss import PROMPT_WEIGHT
from gossamer.circuits.path import Path
from gossamer.circuits.prune import Polish
from gossamer.circuits.splice import Splice
from gossamer.model.language_model import LanguageModel


@pytest.fixture(scope="module")
def known(model: LanguageModel) -> Planted:
    return planted(model)


@pytest.fixture(scope="module")
def polish(known: Planted) -> Polish:
    """Over all nodes, the twin's too."""
    return Polish(known.splice.over(known.everything), known.full)


def at_end(polish: Polish, *latents: int) -> torch.Tensor:
    return polish.splice.nodes.find([node_at(SITE, "END", latent) for latent in latents])


def at(polish: Polish, role: str, *latents: int) -> torch.Tensor:
    return polish.splice.nodes.find([node_at(SITE, role, latent) for latent in latents])


def loss_by_hand(polish: Polish, circuit: torch.Tensor, prompts: int = 12) -> float:
    mask = torch.zeros(len(polish.splice.nodes), dtype=torch.float64)
    mask[circuit] = 1
    with torch.no_grad():
        logits = polish.splice(mask)
    wanted, errors = polish.full.outcome.metric, []
    for row in range(prompts):
        errors.append((logits[row, 7] - logits[row, 8]).item() - wanted[row].item())
    return (PROMPT_WEIGHT * sum(map(abs, errors)) + abs(sum(errors))) / prompts / wanted.double().mean().item()


def test_the_loss_of_a_circuit_by_hand(polish: Polish) -> None:
    everything = torch.arange(len(polish.splice.nodes))
    for circuit in (at_end(polish, 3), at_end(polish, 3, 9, 14), everything, everything[:0]):
        assert polish.loss_of(circuit) == pytest.approx(loss_by_hand(polish, circuit), rel=1e-5, abs=1e-6)
    few = Polish(polish.splice, polish.full, prompts=5)
    circuit = at_end(polish, 3, 9)
    assert few.loss_of(circuit) == pytest.approx(loss_by_hand(polish, circuit, prompts=5), rel=1e-5)
    assert few.loss_of(circuit) != pytest.approx(polish.loss_of(circuit), rel=1e-3)


def test_the_gradient_by_finite_differences(polish: Polish) -> None:
    circuit = at_end(polish, 3, 14, 0)
    found, mask = polish.gradient(circuit), torch.zeros(len(polish.splice.nodes), dtype=torch.float64)
    mask[circuit] = 1
    wanted = polish.full.outcome.metric

    def loss(step: torch.Tensor) -> float:
        with torch.no_grad():
            logits = polish.splice(mask + step)
        errors = logits[:, 7] - logits[:, 8] - wanted
        return ((PROMPT_WEIGHT * errors.abs().mean() + errors.mean().abs()) / wanted.mean()).item()

    for node in (*circuit.tolist(), *at_end(polish, 9, 20).tolist()):
        step = torch.zeros_like(mask).index_fill(0, torch.tensor([node]), 1e-4)
        assert found[node].item() == pytest.approx((loss(step) - loss(-step)) / 2e-4, rel=1e-2, abs=1e-4)
    assert found[at_end(polish, 9)].item() < -0.1


def test_nodes_that_miss_are_exchanged_for_planted_ones(polish: Polish) -> None:
    poor, good = at_end(polish, STEADY[0], 20, 21), at_end(polish, *STEADY, CHANGING)
    found = polish.exchanged(poor)
    assert len(found) == 3
    assert loss_by_hand(polish, found) < 0.7 * loss_by_hand(polish, poor)
    assert torch.equal(polish.exchanged(good), good)


def test_an_improved_path_keeps_what_falls_short_and_loses_what_overshoots(polish: Polish) -> None:
    good, poor = at_end(polish, *STEADY, CHANGING), at_end(polish, STEADY[0], 20, 21, 22)
    doubled = [torch.cat([good, node[None]]) for node in torch.arange(len(polish.splice.nodes)) if node not in good]
    loud = max(doubled, key=lambda circuit: certainty(polish, circuit))
    assert certainty(polish, loud) > 2
    assert loss_by_hand(polish, loud) > loss_by_hand(polish, good)
    found = polish.improved(Path("any", polish.splice.nodes, (poor, good, at_end(polish, 20)), seconds=1.0))
    assert found.sizes == [4, 3, 1]
    assert found.seconds > 1.0
    found = polish.improved(Path("any", polish.splice.nodes, (loud, good), seconds=0.0))
    assert torch.equal(found.of_size(3), good)
    assert all(certainty(polish, circuit) <= 2 for circuit in found.circuits[:-1])


def certainty(polish: Polish, circuit: torch.Tensor) -> float:
    """By how many standard errors a circuit does more than the full model."""
    mask = torch.zeros(len(polish.splice.nodes)).index_fill(0, circuit, 1.0)
    with torch.no_grad():
        logits = polish.splice(mask)
    missed = logits[:, 7] - logits[:, 8] - polish.full.outcome.metric
    return (missed.mean() / missed.std() * len(missed) ** 0.5).item()


def test_after_pruning_the_loss_of_every_circuit_with_one_node_less_is_higher(polish: Polish) -> None:
    nodes = torch.randperm(len(polish.splice.nodes), generator=torch.Generator().manual_seed(1))
    start = torch.cat([at_end(polish, *STEADY, CHANGING), nodes[:15]]).unique()
    left = polish.pruned(start)
    assert 1 < len(left) < len(start)
    assert set(left.tolist()) <= set(start.tolist())
    assert loss_by_hand(polish, left) <= loss_by_hand(polish, start) + 1e-7
    for node in left.tolist():
        assert loss_by_hand(polish, left[left != node]) > loss_by_hand(polish, left)


def test_nodes_without_effect_go_and_no_other(polish: Polish) -> None:
    # Latents at other tokens cannot reach the logits.
    circuit = at_end(polish, *STEADY, CHANGING)
    start = torch.cat([at(polish, "A", *STEADY, 2, 5), circuit, at(polish, "prefix", *range(6))])
    assert polish.pruned(start).tolist() == circuit.tolist()


def test_of_nodes_that_could_each_go_only_one_goes(polish: Polish) -> None:
    # The steady latents and the twin are worth the same. One of them is too many; without two the loss is higher.
    wanted = replace(polish.full.outcome, metric=polish.full.outcome.metric + 0.05)
    between = Polish(polish.splice, replace(polish.full, outcome=wanted))
    left = set(between.pruned(at_end(polish, *STEADY, CHANGING, TWIN)).tolist())
    assert len(left & set(at_end(polish, *STEADY, TWIN).tolist())) == 2
    assert len(left) == 3


def test_when_the_cheapest_cannot_go_another_one_does(polish: Polish) -> None:
    idle = at(polish, "A", *STEADY)
    start = torch.cat([idle, at_end(polish, *STEADY, CHANGING)])
    cheapest = start[torch.argsort(polish.losses_without(start), stable=True)[0]]
    left = polish.pruned(start, lambda shorter: bool((shorter == cheapest).any()))
    assert set(start.tolist()) - set(left.tolist()) == set(idle.tolist()) - {int(cheapest)}


def test_the_losses_without_each_node_are_those_of_the_shorter_circuits(polish: Polish) -> None:
    circuit = torch.cat([at_end(polish, *STEADY, CHANGING), at(polish, "A", 1)])
    for some in (polish, Polish(polish.splice, polish.full, "kl", prompts=5)):
        expected = [some.loss_of(circuit[circuit != node]) for node in circuit]
        assert some.losses_without(circuit).tolist() == pytest.approx(expected, rel=1e-5)


def test_useless_nodes_are_swapped_for_useful_ones(polish: Polish) -> None:
    idle, useful = at(polish, "A", *STEADY, 2, 5), at_end(polish, *STEADY, CHANGING)
    left = polish.refined(torch.cat([idle, useful[:1]]), 4)
    assert set(useful.tolist()) <= set(left.tolist())
    assert len(left) <= 4
    assert not set(left.tolist()) & set(idle.tolist())
    assert loss_by_hand(polish, left) < loss_by_hand(polish, useful[:1])
    for node in left.tolist():
        assert loss_by_hand(polish, left[left != node]) > loss_by_hand(polish, left)


def test_a_full_circuit_without_a_free_node_stays_as_it_is(polish: Polish) -> None:
    useful = at_end(polish, *STEADY, CHANGING)
    assert polish.refined(useful, 3).tolist() == useful.tolist()


def test_the_last_node_is_never_taken(polish: Polish) -> None:
    idle = at(polish, "A", 1, 2, 3)
    assert len(polish.pruned(idle)) == 1
    assert len(polish.pruned(idle[:1])) == 1
    assert len(polish.pruned(idle[:0])) == 0


def test_pruning_stops_at_what_is_enough(polish: Polish) -> None:
    idle = at(polish, "A", *STEADY, 2, 5)
    start = torch.cat([idle, at_end(polish, *STEADY, CHANGING)])
    tried: list[int] = []

    def enough(shorter: torch.Tensor) -> bool:
        tried.append(len(shorter))
        return len(shorter) >= 5

    assert len(polish.pruned(start, enough)) == 5
    assert tried


def test_shortening_takes_the_least_useful_nodes_as_far_as_the_rest_is_enough(polish: Polish) -> None:
    useful = at_end(polish, STEADY[0], CHANGING)
    start = torch.cat([at(polish, "A", *range(6)), useful, at_end(polish, 0, 1, 2)])
    order = start[torch.argsort(polish.gradient(start)[start], stable=True)].tolist()
    assert order[0] == useful[0]
    for needed in range(1, len(start) + 1):
        left = polish.shortened(start, lambda shorter, needed=needed: len(shorter) >= needed)
        assert left.tolist() == order[:needed]
    left = polish.shortened(start, lambda shorter: bool((shorter == useful[1]).any()))
    assert left[-1] == useful[1]


def test_shortening_keeps_everything_when_nothing_less_is_enough(polish: Polish) -> None:
    start = at_end(polish, *STEADY, CHANGING)
    assert set(polish.shortened(start, lambda shorter: False).tolist()) == set(start.tolist())


def test_memory_that_runs_out_halves_the_batch(polish: Polish, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = at_end(polish, 3, 0)
    expected = polish.loss_of(circuit), polish.gradient(circuit)
    real = Splice.__call__

    def limited(self: Splice, mask: torch.Tensor, rows: slice) -> torch.Tensor:
        if rows.stop - rows.start > 3:
            raise torch.OutOfMemoryError("for the test")
        return real(self, mask, rows)

    monkeypatch.setattr(Splice, "__call__", limited)
    with pytest.warns(MemoryWarning):
        found = polish.loss_of(circuit), polish.gradient(circuit)
    assert found[0] == pytest.approx(expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-6)


def judged_by(polish: Polish, circuit: torch.Tensor) -> Polish:
    """Choices on prompts where a circuit does exactly what the full model does."""
    mask = torch.zeros(len(polish.splice.nodes)).index_fill(0, circuit, 1.0)
    own = polish.full.outcome_of(lambda rows: polish.splice(mask, rows))
    return replace(polish, validation=replace(polish, full=replace(polish.full, outcome=own)))


def test_overshoot_and_exchanges_are_judged_on_other_prompts_than_the_fitted(polish: Polish) -> None:
    good, poor = at_end(polish, *STEADY, CHANGING), at_end(polish, STEADY[0], 20, 21)
    doubled = [torch.cat([good, node[None]]) for node in torch.arange(len(polish.splice.nodes)) if node not in good]
    loud = max(doubled, key=lambda circuit: certainty(polish, circuit))
    path = Path("any", polish.splice.nodes, (loud, good), seconds=0.0)
    assert not torch.equal(polish.improved(path).circuits[0], loud)
    elsewhere = judged_by(polish, loud)
    assert elsewhere.check_of(loud) == pytest.approx(0, abs=1e-5)
    assert torch.equal(elsewhere.improved(path).circuits[0], loud)
    assert not torch.equal(polish.exchanged(poor), poor)
    assert torch.equal(judged_by(polish, poor).exchanged(poor), poor)


def test_an_exchange_that_helps_the_fitted_prompts_alone_is_not_made(polish: Polish) -> None:
    poor = at_end(polish, STEADY[0], 20, 21)
    judge = judged_by(polish, poor).validation
    assert judge is not None
    # On these prompts the full model does less than the circuit, so that more of the answer is no gain.
    less = replace(judge.full.outcome, metric=judge.full.outcome.metric - 0.3 * judge.full.outcome.metric.mean())
    elsewhere = replace(polish, validation=replace(judge, full=replace(judge.full, outcome=less)))
    assert polish.loss_of(polish.exchanged(poor)) < 0.7 * polish.loss_of(poor)
    assert elsewhere.check_of(polish.exchanged(poor)) > elsewhere.check_of(poor) > 0.1
    assert torch.equal(elsewhere.exchanged(poor), poor)


def test_a_node_that_is_free_on_the_fitted_prompts_alone_stays(polish: Polish) -> None:
    start = at_end(polish, *STEADY, CHANGING, TWIN)
    wanted = replace(polish.full.outcome, metric=polish.full.outcome.metric + 0.05)
    fitted = replace(polish, full=replace(polish.full, outcome=wanted))
    assert len(fitted.pruned(start)) == 3
    mask = torch.zeros(len(polish.splice.nodes)).index_fill(0, start, 1.0)
    own = polish.full.outcome_of(lambda rows: polish.splice(mask, rows))
    both = replace(fitted, validation=replace(polish, full=replace(polish.full, outcome=own)))
    assert set(both.pruned(start).tolist()) == set(start.tolist())
    idle = at(polish, "A", *STEADY, 2, 5)
    assert set(both.pruned(torch.cat([idle, start])).tolist()) == set(start.tolist())


def test_small_circuits_that_nothing_improves_do_not_spare_the_large_ones(polish: Polish) -> None:
    poor = at_end(polish, STEADY[0], 20, 21, 22)
    small = tuple(at_end(polish, STEADY[1]) for _ in range(4))
    assert all(torch.equal(polish.exchanged(circuit), circuit) for circuit in small)
    found = polish.improved(Path("any", polish.splice.nodes, (poor, *small), seconds=0.0))
    assert loss_by_hand(polish, found.circuits[0]) < 0.7 * loss_by_hand(polish, poor)


def test_an_improved_path_falls_in_size_whatever_is_filled_up(polish: Polish) -> None:
    nodes = torch.randperm(len(polish.splice.nodes), generator=torch.Generator().manual_seed(2))
    good = at_end(polish, *STEADY, CHANGING)
    rest = nodes[~torch.isin(nodes, good)]
    circuits = tuple(torch.cat([good, rest[:more]]) for more in (60, 30, 12, 9, 6, 3, 0))
    found = polish.improved(Path("any", polish.splice.nodes, circuits, seconds=0.0))
    assert len(found.circuits) == len(circuits), "no size is lost"
    assert found.sizes == sorted(found.sizes, reverse=True)
    for size in (63, 40, 15, 9, 3):
        assert len(found.of_size(size)) == max(one for one in found.sizes if one <= size)


def test_of_two_nodes_the_idle_one_goes(polish: Polish) -> None:
    useful = at_end(polish, STEADY[0])
    assert polish.pruned(torch.cat([at(polish, "A", 1), useful])).tolist() == useful.tolist()
