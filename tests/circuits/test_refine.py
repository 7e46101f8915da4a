"""Exact last steps on a network of which the circuit is known."""

from dataclasses import replace

import pytest
import torch
from circuit_lab import node_at
from planted import CHANGING, SITE, STEADY, TWIN, Planted, planted

from gossamer.batching import MemoryWarning
from gossamer.circuits.loss import PROMPT_WEIGHT
from gossamer.circuits.outputs import Outputs
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.refine import CircuitRefiner, _take_out
from gossamer.circuits.splice import Splice
from gossamer.circuits.unseen import Unseen
from gossamer.model.language_model import LanguageModel


@pytest.fixture(scope="module")
def known(model: LanguageModel) -> Planted:
    return planted(model)


@pytest.fixture(scope="module")
def refiner(known: Planted) -> CircuitRefiner:
    """Over all nodes, the twin's too."""
    return CircuitRefiner(known.splice.with_nodes(known.everything), known.full)


def at_end(refiner: CircuitRefiner, *latents: int) -> torch.Tensor:
    return refiner.splice.nodes.find([node_at(SITE, "END", latent) for latent in latents])


def at(refiner: CircuitRefiner, role: str, *latents: int) -> torch.Tensor:
    return refiner.splice.nodes.find([node_at(SITE, role, latent) for latent in latents])


def loss_by_hand(refiner: CircuitRefiner, circuit: torch.Tensor, prompts: int = 12) -> float:
    mask = torch.zeros(len(refiner.splice.nodes), dtype=torch.float64)
    mask[circuit] = 1
    with torch.no_grad():
        logits = refiner.splice(mask)
    wanted, errors = refiner.full.prompt_metrics.metric, []
    for row in range(prompts):
        errors.append((logits[row, 7] - logits[row, 8]).item() - wanted[row].item())
    short = sum(-error for error in errors if error < 0)
    return (PROMPT_WEIGHT * short + abs(sum(errors))) / prompts / wanted.double().mean().item()


def test_the_loss_of_a_circuit_by_hand(refiner: CircuitRefiner) -> None:
    everything = torch.arange(len(refiner.splice.nodes))
    for circuit in (at_end(refiner, 3), at_end(refiner, 3, 9, 14), everything, everything[:0]):
        assert refiner.loss_of(circuit) == pytest.approx(loss_by_hand(refiner, circuit), rel=1e-5, abs=1e-6)
    few = CircuitRefiner(refiner.splice, refiner.full, prompts=5)
    circuit = at_end(refiner, 3, 9)
    assert few.loss_of(circuit) == pytest.approx(loss_by_hand(refiner, circuit, prompts=5), rel=1e-5)
    assert few.loss_of(circuit) != pytest.approx(refiner.loss_of(circuit), rel=1e-3)


def test_the_gradient_by_finite_differences(refiner: CircuitRefiner) -> None:
    circuit = at_end(refiner, 3, 14, 0)
    found, mask = refiner.gradient(circuit), torch.zeros(len(refiner.splice.nodes), dtype=torch.float64)
    mask[circuit] = 1
    wanted = refiner.full.prompt_metrics.metric

    def loss(step: torch.Tensor) -> float:
        with torch.no_grad():
            logits = refiner.splice(mask + step)
        errors = logits[:, 7] - logits[:, 8] - wanted
        short = (-errors).clamp(min=0)
        return ((PROMPT_WEIGHT * short.mean() + errors.mean().abs()) / wanted.mean()).item()

    for node in (*circuit.tolist(), *at_end(refiner, 9, 20).tolist()):
        step = torch.zeros_like(mask).index_fill(0, torch.tensor([node]), 1e-4)
        assert found[node].item() == pytest.approx((loss(step) - loss(-step)) / 2e-4, rel=1e-2, abs=1e-4)
    assert found[at_end(refiner, 9)].item() < -0.1


def test_nodes_that_miss_are_exchanged_for_planted_ones(refiner: CircuitRefiner) -> None:
    poor, good = at_end(refiner, STEADY[0], 20, 21), at_end(refiner, *STEADY, CHANGING)
    found = refiner.swap(poor)
    assert len(found) == 3
    assert loss_by_hand(refiner, found) < 0.7 * loss_by_hand(refiner, poor)
    assert torch.equal(refiner.swap(good), good)


def test_a_circuit_gives_way_to_the_first_nodes_of_a_ranking_that_are_clearly_better(refiner: CircuitRefiner) -> None:
    poor, good = at_end(refiner, 20, 21, 22), at_end(refiner, *STEADY, CHANGING)
    rest = torch.tensor([node for node in torch.arange(len(refiner.splice.nodes)) if node not in good])
    order, asked = torch.cat([good, rest]), []

    def rankings() -> list[torch.Tensor]:
        asked.append(1)
        return [torch.flip(order, [0]), order]

    ranked = replace(refiner, rankings=rankings)
    assert asked == []
    assert torch.equal(ranked.swap(poor), good)
    assert loss_by_hand(refiner, refiner.swap(poor)) > loss_by_hand(refiner, good)
    path = CircuitPath("mask", refiner.splice.nodes, (torch.cat([good, rest[:1]]), poor), seconds=0.0)
    assert torch.equal(ranked.improved(path).circuits[1], good)
    # One that needs nothing asks for no ranking; where other prompts find the ranking worse the circuit stays.
    asked.clear()
    assert torch.equal(ranked.swap(good), good)
    assert asked == []
    judge, part = judged_by(refiner, at_end(refiner, 20)), at_end(refiner, STEADY[0], 20, 21)
    assert judge.check_of(part) < judge.check_of(good)
    assert judge.loss_of(part) > judge.loss_of(good) + 0.3
    assert not torch.equal(replace(judge, rankings=rankings).swap(part), good)
    assert asked == [1]


def test_an_improved_path_keeps_what_falls_short_and_loses_what_overshoots(refiner: CircuitRefiner) -> None:
    good, poor = at_end(refiner, *STEADY, CHANGING), at_end(refiner, STEADY[0], 20, 21, 22)
    doubled = [torch.cat([good, node[None]]) for node in torch.arange(len(refiner.splice.nodes)) if node not in good]
    loud = max(doubled, key=lambda circuit: certainty(refiner, circuit))
    assert certainty(refiner, loud) > 2
    assert loss_by_hand(refiner, loud) > loss_by_hand(refiner, good)
    found = refiner.improved(CircuitPath("any", refiner.splice.nodes, (poor, good, at_end(refiner, 20)), seconds=1.0))
    assert found.sizes == [4, 3, 1]
    assert found.seconds > 1.0
    found = refiner.improved(CircuitPath("any", refiner.splice.nodes, (loud, good), seconds=0.0))
    assert torch.equal(found.of_size(3), good)
    assert all(certainty(refiner, circuit) <= 2 for circuit in found.circuits[:-1])


def test_a_circuit_that_a_smaller_one_clearly_betters_goes(refiner: CircuitRefiner) -> None:
    good, poor = at_end(refiner, *STEADY, CHANGING), at_end(refiner, STEADY[0], 20, 21, 22)
    assert loss_by_hand(refiner, poor) > loss_by_hand(refiner, good) + 0.03
    path = CircuitPath("any", refiner.splice.nodes, (poor, good, at_end(refiner, 20)), seconds=0.0)
    found = refiner.undominated(path)
    assert found.sizes == [3, 1], "a smaller circuit that is worse stays"
    assert torch.equal(found.of_size(4), good)
    # Where other prompts say that the larger one is right, it stays.
    assert judged_by(refiner, poor).undominated(path).sizes == [4, 3, 1]


def test_a_bettered_circuit_stays_where_as_many_nodes_do_better_on_words_that_no_search_saw(
    refiner: CircuitRefiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, poor = at_end(refiner, *STEADY, CHANGING), at_end(refiner, STEADY[0], 20, 21, 22)
    path = CircuitPath("any", refiner.splice.nodes, (poor, good, at_end(refiner, 20)), seconds=0.0)
    # How small the circuits of the other search are depends on what else was asked: of few nodes it is not.
    unasked = replace(refiner, unseen=lambda: pytest.fail("asked"))
    assert unasked.undominated(path).sizes == [3, 1]
    monkeypatch.setattr("gossamer.circuits.refine.LEAST_LEVELLED", len(good))
    for lost, sizes in ((-0.2, [4, 3, 1]), (-0.4, [3, 1]), (-0.5, [3, 1])):
        unseen = Unseen.of([(3, torch.full((6,), -0.4)), (4, torch.full((6,), lost))])
        assert replace(refiner, unseen=lambda unseen=unseen: unseen).undominated(path).sizes == sizes
    # Of the loss "kl", of which nothing of the kind is known, nobody asks.
    divergent = replace(refiner, loss="kl", unseen=lambda: pytest.fail("asked"))
    assert divergent.undominated(path).sizes == replace(refiner, loss="kl").undominated(path).sizes


def test_one_circuit_is_improved_as_it_is_with_its_whole_path(refiner: CircuitRefiner) -> None:
    good, poor = at_end(refiner, *STEADY, CHANGING), at_end(refiner, STEADY[0], 20, 21, 22)
    doubled = [torch.cat([good, node[None]]) for node in torch.arange(len(refiner.splice.nodes)) if node not in good]
    loud = max(doubled, key=lambda circuit: certainty(refiner, circuit))
    for circuits in ((poor, good, at_end(refiner, 20)), (loud, good), (torch.cat([good, poor[1:]]), loud, poor[:2])):
        path = CircuitPath("any", refiner.splice.nodes, circuits, seconds=0.0)
        whole = refiner.improved(path)
        assert not all(torch.equal(*pair) for pair in zip(whole.circuits, circuits, strict=True))
        for place, size in enumerate(path.sizes):
            found = refiner.improved_at(path, size)
            assert torch.equal(found.circuits[place], whole.circuits[place])
            assert all(torch.equal(*pair) for pair in zip(found.circuits[:place], circuits[:place], strict=True))


@pytest.fixture
def slightly_too_much(refiner: CircuitRefiner, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """A circuit that does .0065 more than the full model, by sixteen standard errors."""
    monkeypatch.setattr("gossamer.circuits.refine.LEAST_LEVELLED", 1)
    good = at_end(refiner, *STEADY, CHANGING)
    order = torch.randperm(len(refiner.splice.nodes), generator=torch.Generator().manual_seed(1))
    circuit = torch.cat([good, order[~torch.isin(order, good)][:15]])
    assert refiner.found(circuit)[1].mean() == pytest.approx(0.0065, abs=3e-4)
    return circuit


def knowing(refiner: CircuitRefiner, circuit: torch.Tensor, lost: float) -> CircuitRefiner:
    """Where circuits keep so much less on prompts that they were not fitted to."""
    excess = refiner.found(circuit)[1] - lost
    return replace(refiner, unseen=lambda: Unseen.of([(len(circuit), excess)]))


def test_a_circuit_that_does_a_little_too_much_is_levelled(
    refiner: CircuitRefiner, slightly_too_much: torch.Tensor
) -> None:
    circuit = slightly_too_much
    assert torch.equal(refiner.swap(circuit), circuit), "exchanges are too coarse, or not tried"
    found = knowing(refiner, circuit, lost=0.0).swap(circuit)
    assert len(set(found.tolist())) == len(circuit)
    assert not torch.equal(found, circuit)
    assert refiner.found(found)[1].mean().abs() < 0.002
    assert loss_by_hand(refiner, found) < 0.4 * loss_by_hand(refiner, circuit)


def test_what_other_words_lose_is_left_to_a_circuit(refiner: CircuitRefiner, slightly_too_much: torch.Tensor) -> None:
    circuit = slightly_too_much
    for lost in (0.0065, 0.005, 0.02):
        assert torch.equal(knowing(refiner, circuit, lost).swap(circuit), circuit), f"{lost} are lost"
    # With .002 lost elsewhere its mean comes to about that much.
    found = knowing(refiner, circuit, lost=0.002).swap(circuit)
    assert refiner.found(found)[1].mean() == pytest.approx(0.002, abs=0.003)


def test_nodes_of_a_circuit_that_falls_short_on_other_words_are_not_exchanged_for_its_overshoot_here(
    refiner: CircuitRefiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gossamer.circuits.refine.LEAST_LEVELLED", 1)
    good = at_end(refiner, *STEADY, CHANGING)
    doubled = [torch.cat([good, node[None]]) for node in torch.arange(len(refiner.splice.nodes)) if node not in good]
    loud = max(doubled, key=lambda circuit: refiner.found(circuit)[1].mean().item())
    excess = refiner.found(loud)[1].mean().item()
    assert excess > 0.02
    assert not torch.equal(knowing(refiner, loud, lost=0.5 * excess).swap(loud), loud)
    assert torch.equal(knowing(refiner, loud, lost=1.5 * excess).swap(loud), loud)
    # One that falls short here too is exchanged whatever is known.
    poor = at_end(refiner, STEADY[0], 20, 21)
    assert not torch.equal(knowing(refiner, poor, lost=0.1).swap(poor), poor)


def test_small_circuits_and_other_losses_are_not_levelled(
    refiner: CircuitRefiner, slightly_too_much: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    circuit = slightly_too_much
    divergence = replace(refiner, loss="kl")
    assert torch.equal(knowing(divergence, circuit, lost=0.0).swap(circuit), divergence.swap(circuit))
    monkeypatch.setattr("gossamer.circuits.refine.LEAST_LEVELLED", len(circuit) + 1)
    assert torch.equal(knowing(refiner, circuit, lost=0.0).swap(circuit), circuit)


def test_a_levelled_circuit_is_better_on_the_prompts_of_choices_too(
    refiner: CircuitRefiner, slightly_too_much: torch.Tensor
) -> None:
    circuit = slightly_too_much
    judge = judged_by(refiner, circuit)
    assert torch.equal(knowing(judge, circuit, lost=0.0).swap(circuit), circuit)


def certainty(refiner: CircuitRefiner, circuit: torch.Tensor) -> float:
    """By how many standard errors a circuit does more than the full model."""
    mask = torch.zeros(len(refiner.splice.nodes)).index_fill(0, circuit, 1.0)
    with torch.no_grad():
        logits = refiner.splice(mask)
    missed = logits[:, 7] - logits[:, 8] - refiner.full.prompt_metrics.metric
    return (missed.mean() / missed.std() * len(missed) ** 0.5).item()


def test_after_pruning_the_loss_of_every_circuit_with_one_node_less_is_higher(refiner: CircuitRefiner) -> None:
    nodes = torch.randperm(len(refiner.splice.nodes), generator=torch.Generator().manual_seed(1))
    start = torch.cat([at_end(refiner, *STEADY, CHANGING), nodes[:15]]).unique()
    left = refiner.pruned(start)
    assert 1 < len(left) < len(start)
    assert set(left.tolist()) <= set(start.tolist())
    assert loss_by_hand(refiner, left) <= loss_by_hand(refiner, start) + 1e-7
    for node in left.tolist():
        assert loss_by_hand(refiner, left[left != node]) > loss_by_hand(refiner, left)


def test_nodes_without_effect_go_and_no_other(refiner: CircuitRefiner) -> None:
    # Latents at other tokens cannot reach the logits.
    circuit = at_end(refiner, *STEADY, CHANGING)
    start = torch.cat([at(refiner, "A", *STEADY, 2, 5), circuit, at(refiner, "prefix", *range(6))])
    assert refiner.pruned(start).tolist() == circuit.tolist()


def test_of_nodes_that_could_each_go_only_one_goes(refiner: CircuitRefiner) -> None:
    # The steady latents and the twin are worth the same. One of them is too many; without two the loss is higher.
    wanted = replace(refiner.full.prompt_metrics, metric=refiner.full.prompt_metrics.metric + 0.04)
    between = CircuitRefiner(refiner.splice, replace(refiner.full, prompt_metrics=wanted))
    left = set(between.pruned(at_end(refiner, *STEADY, CHANGING, TWIN)).tolist())
    assert len(left & set(at_end(refiner, *STEADY, TWIN).tolist())) == 2
    assert len(left) == 3


def test_when_the_cheapest_cannot_go_another_one_does(refiner: CircuitRefiner) -> None:
    idle = at(refiner, "A", *STEADY)
    start = torch.cat([idle, at_end(refiner, *STEADY, CHANGING)])
    cheapest = start[torch.argsort(refiner.losses_without(start), stable=True)[0]]
    left = refiner.pruned(start, lambda shorter: bool((shorter == cheapest).any()))
    assert set(start.tolist()) - set(left.tolist()) == set(idle.tolist()) - {int(cheapest)}


def test_nodes_that_cannot_go_with_those_before_them_go_in_the_same_round() -> None:
    circuit, free, tried, kept = torch.arange(100, 120), torch.arange(16), [], [torch.arange(100, 120)]

    def fits(left: torch.Tensor) -> bool:
        gone = sorted(set(range(100, 120)) - set(left.tolist()))
        tried.append(len(gone))
        # The first can go; of the others every second one cannot.
        if not all(node == 100 or node % 2 for node in gone):
            return False
        kept.append(left)
        return True

    _take_out(circuit, free, fits)
    assert kept[-1].tolist() == [*range(102, 115, 2), *range(116, 120)]
    assert len(tried) <= 16 + 5, "a trial a node, and a bisection"


def test_the_losses_without_each_node_are_those_of_the_shorter_circuits(refiner: CircuitRefiner) -> None:
    circuit = torch.cat([at_end(refiner, *STEADY, CHANGING), at(refiner, "A", 1)])
    for some in (refiner, CircuitRefiner(refiner.splice, refiner.full, "kl", prompts=5)):
        expected = [some.loss_of(circuit[circuit != node]) for node in circuit]
        assert some.losses_without(circuit).tolist() == pytest.approx(expected, rel=1e-5)


def test_useless_nodes_are_swapped_for_useful_ones(refiner: CircuitRefiner) -> None:
    idle, useful = at(refiner, "A", *STEADY, 2, 5), at_end(refiner, *STEADY, CHANGING)
    left = refiner.refined(torch.cat([idle, useful[:1]]), 4)
    twins = {int(at_end(refiner, TWIN)): int(at_end(refiner, STEADY[1]))}  # the same latent twice: either will do
    assert set(useful.tolist()) <= {twins.get(node, node) for node in left.tolist()}
    assert len(left) <= 4
    assert not set(left.tolist()) & set(idle.tolist())
    assert loss_by_hand(refiner, left) < loss_by_hand(refiner, useful[:1])
    for node in left.tolist():
        assert loss_by_hand(refiner, left[left != node]) > loss_by_hand(refiner, left)


def test_a_full_circuit_without_a_free_node_stays_as_it_is(refiner: CircuitRefiner) -> None:
    useful = at_end(refiner, *STEADY, CHANGING)
    assert refiner.refined(useful, 3).tolist() == useful.tolist()


def test_the_last_node_is_never_taken(refiner: CircuitRefiner) -> None:
    idle = at(refiner, "A", 1, 2, 3)
    assert len(refiner.pruned(idle)) == 1
    assert len(refiner.pruned(idle[:1])) == 1
    assert len(refiner.pruned(idle[:0])) == 0


def test_pruning_stops_at_what_is_enough(refiner: CircuitRefiner) -> None:
    idle = at(refiner, "A", *STEADY, 2, 5)
    start = torch.cat([idle, at_end(refiner, *STEADY, CHANGING)])
    tried: list[int] = []

    def enough(shorter: torch.Tensor) -> bool:
        tried.append(len(shorter))
        return len(shorter) >= 5

    assert len(refiner.pruned(start, enough)) == 5
    assert tried


def test_shortening_takes_the_least_useful_nodes_as_far_as_the_rest_is_enough(refiner: CircuitRefiner) -> None:
    useful = at_end(refiner, STEADY[0], CHANGING)
    start = torch.cat([at(refiner, "A", *range(6)), useful, at_end(refiner, 0, 1, 2)])
    order = start[torch.argsort(refiner.gradient(start)[start], stable=True)].tolist()
    assert order[0] == useful[0]
    for needed in range(1, len(start) + 1):
        left = refiner.shortened(start, lambda shorter, needed=needed: len(shorter) >= needed)
        assert left.tolist() == order[:needed]
    left = refiner.shortened(start, lambda shorter: bool((shorter == useful[1]).any()))
    assert left[-1] == useful[1]


def test_shortening_keeps_everything_when_nothing_less_is_enough(refiner: CircuitRefiner) -> None:
    start = at_end(refiner, *STEADY, CHANGING)
    assert set(refiner.shortened(start, lambda shorter: False).tolist()) == set(start.tolist())


def test_memory_that_runs_out_halves_the_batch(refiner: CircuitRefiner, monkeypatch: pytest.MonkeyPatch) -> None:
    circuit = at_end(refiner, 3, 0)
    expected = refiner.loss_of(circuit), refiner.gradient(circuit)
    real = Splice.outputs

    def limited(self: Splice, mask: torch.Tensor, rows: slice) -> Outputs:
        if rows.stop - rows.start > 3:
            raise torch.OutOfMemoryError("for the test")
        return real(self, mask, rows)

    monkeypatch.setattr(Splice, "outputs", limited)
    with pytest.warns(MemoryWarning):
        found = refiner.loss_of(circuit), refiner.gradient(circuit)
    assert found[0] == pytest.approx(expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-6)


def judged_by(refiner: CircuitRefiner, circuit: torch.Tensor) -> CircuitRefiner:
    """Choices on prompts where a circuit does exactly what the full model does."""
    mask = torch.zeros(len(refiner.splice.nodes)).index_fill(0, circuit, 1.0)
    own = refiner.full.prompt_metrics_of(lambda rows: refiner.splice.outputs(mask, rows))
    return replace(refiner, validation=replace(refiner, full=replace(refiner.full, prompt_metrics=own)))


def test_overshoot_and_exchanges_are_judged_on_other_prompts_than_the_fitted(refiner: CircuitRefiner) -> None:
    good, poor = at_end(refiner, *STEADY, CHANGING), at_end(refiner, STEADY[0], 20, 21)
    doubled = [torch.cat([good, node[None]]) for node in torch.arange(len(refiner.splice.nodes)) if node not in good]
    loud = max(doubled, key=lambda circuit: certainty(refiner, circuit))
    path = CircuitPath("any", refiner.splice.nodes, (loud, good), seconds=0.0)
    assert not torch.equal(refiner.improved(path).circuits[0], loud)
    elsewhere = judged_by(refiner, loud)
    assert elsewhere.check_of(loud) == pytest.approx(0, abs=1e-5)
    assert torch.equal(elsewhere.improved(path).circuits[0], loud)
    assert not torch.equal(refiner.swap(poor), poor)
    assert torch.equal(judged_by(refiner, poor).swap(poor), poor)


def test_an_exchange_that_helps_the_fitted_prompts_alone_is_not_made(refiner: CircuitRefiner) -> None:
    poor = at_end(refiner, STEADY[0], 20, 21)
    judge = judged_by(refiner, poor).validation
    assert judge is not None
    # On these prompts the full model does less than the circuit, so that more of the answer is no gain.
    less = replace(
        judge.full.prompt_metrics,
        metric=judge.full.prompt_metrics.metric - 0.3 * judge.full.prompt_metrics.metric.mean(),
    )
    elsewhere = replace(refiner, validation=replace(judge, full=replace(judge.full, prompt_metrics=less)))
    assert refiner.loss_of(refiner.swap(poor)) < 0.7 * refiner.loss_of(poor)
    assert elsewhere.check_of(refiner.swap(poor)) > elsewhere.check_of(poor) > 0.1
    assert torch.equal(elsewhere.swap(poor), poor)


def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, tuple[int, ...]]]:
    """Every circuit that is measured from now on, with whether it is so on the prompts that choices are made on."""
    seen: list[tuple[bool, tuple[int, ...]]] = []
    real = CircuitRefiner.found

    def watched(self: CircuitRefiner, circuit: torch.Tensor) -> tuple[float, torch.Tensor]:
        seen.append((self.validation is None, tuple(sorted(circuit.tolist()))))
        return real(self, circuit)

    monkeypatch.setattr(CircuitRefiner, "found", watched)
    return seen


def test_a_trial_that_choices_reject_costs_no_pass_of_the_fitted_prompts(
    refiner: CircuitRefiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    poor = at_end(refiner, STEADY[0], 20, 21)
    # It falls short by a tenth there, so that nodes are exchanged on trial, and each exchange goes too far.
    judge = judged_by(refiner, poor).validation
    assert judge is not None
    own = judge.full.prompt_metrics
    more = replace(own, metric=own.metric + 0.1 * own.metric.mean())
    both = replace(refiner, validation=replace(judge, full=replace(judge.full, prompt_metrics=more)))
    seen = passes(monkeypatch)
    assert torch.equal(both.swap(poor), poor)
    start = tuple(sorted(poor.tolist()))
    assert [circuit for choosing, circuit in seen if not choosing] == [start]
    tried = [circuit for choosing, circuit in seen if choosing]
    assert len(tried) > 1
    assert tried[0] == start
    assert all(circuit != start for circuit in tried[1:])


def test_what_an_improved_path_knows_is_not_measured_again(
    refiner: CircuitRefiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    poor, good = at_end(refiner, STEADY[0], 20, 21), at_end(refiner, *STEADY, CHANGING)
    path = CircuitPath("any", refiner.splice.nodes, (torch.cat([good, at_end(refiner, 20)]), poor), seconds=0.0)
    fresh, seen = replace(refiner), passes(monkeypatch)
    improved = fresh.improved(path)
    assert len(seen) == len(set(seen)) > 2
    before = len(seen)
    found = fresh.undominated(improved)
    assert len(seen) == before
    # As one that has to measure them all finds it, and no setting is changed with what another knows.
    assert found.sizes == replace(refiner).undominated(improved).sizes
    assert len(seen) > before
    assert replace(refiner, prompts=5).loss_of(poor) != pytest.approx(refiner.loss_of(poor), rel=1e-3)


def test_a_node_that_is_free_on_the_fitted_prompts_alone_stays(refiner: CircuitRefiner) -> None:
    start = at_end(refiner, *STEADY, CHANGING, TWIN)
    wanted = replace(refiner.full.prompt_metrics, metric=refiner.full.prompt_metrics.metric + 0.04)
    fitted = replace(refiner, full=replace(refiner.full, prompt_metrics=wanted))
    assert len(fitted.pruned(start)) == 3
    mask = torch.zeros(len(refiner.splice.nodes)).index_fill(0, start, 1.0)
    own = refiner.full.prompt_metrics_of(lambda rows: refiner.splice.outputs(mask, rows))
    both = replace(fitted, validation=replace(refiner, full=replace(refiner.full, prompt_metrics=own)))
    assert set(both.pruned(start).tolist()) == set(start.tolist())
    idle = at(refiner, "A", *STEADY, 2, 5)
    assert set(both.pruned(torch.cat([idle, start])).tolist()) == set(start.tolist())


def test_small_circuits_that_nothing_improves_do_not_spare_the_large_ones(refiner: CircuitRefiner) -> None:
    poor = at_end(refiner, STEADY[0], 20, 21, 22)
    small = tuple(at_end(refiner, STEADY[1]) for _ in range(4))
    assert all(torch.equal(refiner.swap(circuit), circuit) for circuit in small)
    found = refiner.improved(CircuitPath("any", refiner.splice.nodes, (poor, *small), seconds=0.0))
    assert loss_by_hand(refiner, found.circuits[0]) < 0.7 * loss_by_hand(refiner, poor)


def test_an_improved_path_falls_in_size_whatever_is_filled_up(refiner: CircuitRefiner) -> None:
    nodes = torch.randperm(len(refiner.splice.nodes), generator=torch.Generator().manual_seed(2))
    good = at_end(refiner, *STEADY, CHANGING)
    rest = nodes[~torch.isin(nodes, good)]
    circuits = tuple(torch.cat([good, rest[:more]]) for more in (60, 30, 12, 9, 6, 3, 0))
    found = refiner.improved(CircuitPath("any", refiner.splice.nodes, circuits, seconds=0.0))
    assert len(found.circuits) == len(circuits), "no size is lost"
    assert found.sizes == sorted(found.sizes, reverse=True)
    for size in (63, 40, 15, 9, 3):
        assert len(found.of_size(size)) == max(one for one in found.sizes if one <= size)


def test_of_two_nodes_the_idle_one_goes(refiner: CircuitRefiner) -> None:
    useful = at_end(refiner, STEADY[0])
    assert refiner.pruned(torch.cat([at(refiner, "A", 1), useful])).tolist() == useful.tolist()


def test_nodes_may_be_left_out_on_fewer_prompts_than_decide(
    refiner: CircuitRefiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = torch.cat([at(refiner, "A", *STEADY, 2, 5), at_end(refiner, *STEADY, CHANGING, 20, 21)])
    few = replace(refiner, left_out=4)
    counted: list[tuple[int, int]] = []
    real = CircuitRefiner.losses_without

    def watched(self: CircuitRefiner, circuit: torch.Tensor, only: torch.Tensor | None = None) -> torch.Tensor:
        counted.append((self._count, len(circuit) if only is None else int(only.sum())))
        return real(self, circuit, only)

    monkeypatch.setattr(CircuitRefiner, "losses_without", watched)
    left = few.pruned(start)
    assert {prompts for prompts, _ in counted} == {4}
    tried = [nodes for _, nodes in counted]
    assert tried[0] == len(start)
    assert tried == sorted(tried, reverse=True)
    assert not set(left.tolist()) & set(at(refiner, "A", *STEADY, 2, 5).tolist())
    assert loss_by_hand(refiner, left) <= loss_by_hand(refiner, start) + 1e-7


def test_nodes_that_were_not_free_on_few_prompts_are_not_tried_again_after_others_came(
    refiner: CircuitRefiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = torch.cat([at(refiner, "A", *STEADY, 2, 5), at_end(refiner, STEADY[0], 20, 21)])
    tried: list[list[int]] = []
    real = CircuitRefiner.losses_without

    def watched(self: CircuitRefiner, circuit: torch.Tensor, only: torch.Tensor | None = None) -> torch.Tensor:
        tried.append(circuit.tolist() if only is None else circuit[only].tolist())
        return real(self, circuit, only)

    monkeypatch.setattr(CircuitRefiner, "losses_without", watched)
    left = replace(refiner, left_out=4).refined(start, len(start))
    assert set(left.tolist()) - set(start.tolist()), "others came"
    again = [node for nodes in tried[1:] for node in nodes if node in tried[0]]
    assert set(again) <= set(start.tolist()) - set(left.tolist())
    assert loss_by_hand(refiner, left) < loss_by_hand(refiner, start)


def test_of_many_nodes_the_cheapest_go_together(refiner: CircuitRefiner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gossamer.circuits.refine._ALONE", 3)
    monkeypatch.setattr("gossamer.circuits.refine.each_left_out", lambda *_: pytest.fail("nodes were tried alone"))
    everything = torch.arange(len(refiner.splice.nodes))
    left = refiner.pruned(everything, lambda shorter: len(shorter) > 5)
    assert 5 < len(left) < len(everything)
    assert refiner.loss_of(left) <= refiner.loss_of(everything) * (1 + 1e-6) + 1e-9
    order = everything[torch.argsort(refiner.gradient(everything), stable=True)]
    assert torch.equal(left, order[: len(left)]), "those that cost least to first order are gone"
    monkeypatch.undo()
    monkeypatch.setattr("gossamer.circuits.refine._ALONE", len(everything) - 1)
    exact = refiner.pruned(everything)
    assert refiner.loss_of(exact) <= refiner.loss_of(everything) * (1 + 1e-6) + 1e-9
    assert (refiner.losses_without(exact) > refiner.loss_of(exact)).all(), "once they are few, none is free"
