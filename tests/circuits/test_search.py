"""The mask search: the soft top-k by itself, and paths on a network of which the circuit is known."""

import itertools
from dataclasses import replace

import pytest
import torch
from planted import Planted, planted

from gossamer.batching import MemoryWarning
from gossamer.circuits import search
from gossamer.circuits.attribution import attribution_patching, ranking
from gossamer.circuits.input_gradients import input_gradients
from gossamer.circuits.outputs import Outputs
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.relevance import relevance
from gossamer.circuits.search import Effort, SearchSettings, effort, search_path, soft_top
from gossamer.circuits.splice import Splice
from gossamer.errors import GossamerError, NotFiniteError, UsageError
from gossamer.model.language_model import LanguageModel

FAST = SearchSettings(sizes=(40, 10, 5, 4, 3), steps=60, batch_size=12, learning_rate=0.3)


@pytest.fixture(scope="module")
def known(model: LanguageModel) -> Planted:
    return planted(model)


@pytest.fixture
def scores() -> torch.Tensor:
    return 3 * torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def circuits(path: CircuitPath) -> list[list[int]]:
    return [circuit.tolist() for circuit in path.circuits]


@pytest.mark.parametrize("temperature", [0.05, 1.0, 5.0])
@pytest.mark.parametrize("size", [0.5, 3.0, 25.0, 44.0])
def test_the_soft_mask_has_the_wanted_size(scores: torch.Tensor, size: float, temperature: float) -> None:
    mask = soft_top(scores, size, temperature)
    assert mask.sum().item() == pytest.approx(size, rel=1e-6)
    assert ((mask >= 0) & (mask <= 1)).all()
    assert torch.equal(mask[torch.argsort(scores)], mask.sort().values)


def test_moving_the_scores_keeps_the_size(scores: torch.Tensor) -> None:
    leaf = scores.clone().requires_grad_()
    gradient = torch.autograd.grad(soft_top(leaf, 7.0, 0.8).sum(), leaf)[0]
    assert gradient.abs().max() < 1e-9


def test_gradients_of_the_soft_mask_by_finite_differences(scores: torch.Tensor) -> None:
    leaf, weight = scores.clone().requires_grad_(), torch.linspace(-1, 1, 50, dtype=torch.float64)
    gradient = torch.autograd.grad((weight * soft_top(leaf, 7.0, 0.8)).sum(), leaf)[0]
    for node in gradient.abs().topk(4).indices.tolist():
        step = torch.zeros_like(scores).index_fill(0, torch.tensor([node]), 1e-4)
        ends = [(weight * soft_top(scores + sign * step, 7.0, 0.8)).sum() for sign in (1, -1)]
        assert gradient[node].item() == pytest.approx(((ends[0] - ends[1]) / 2e-4).item(), rel=1e-4)
    assert gradient.abs().max() > 0.01


def test_a_cold_soft_mask_is_the_top_and_equal_scores_share(scores: torch.Tensor) -> None:
    mask = soft_top(scores, 6.0, 1e-4)
    assert torch.equal(torch.nonzero(mask > 0.5).squeeze(1), scores.topk(6).indices.sort().values)
    torch.testing.assert_close(soft_top(torch.ones(40), 10.0, 0.3), torch.full((40,), 0.25))


@pytest.mark.parametrize(
    "changes",
    [{}, {"loss": "kl"}, {"batch_size": 6}, {"reserve": 2.0}, {"seed": 3}],
    ids=lambda changes: "-".join(changes) or "default",
)
def test_the_path_ends_in_the_known_circuit(known: Planted, changes: dict[str, object]) -> None:
    path = search_path(known.splice, known.full, replace(FAST, **changes))
    assert path.sizes == [40, 10, 5, 4, 3]
    assert known.found(path.circuits[-1]) == known.keys
    assert all(known.keys <= known.found(circuit) for circuit in path.circuits)
    assert all(len(set(circuit.tolist())) == len(circuit) for circuit in path.circuits)
    assert path.method == "mask"


@pytest.mark.parametrize(
    ("steps", "last"), [(200, 0.3), (400, 0.1), (1000, 0.1), (100, 0.7), (50, 1.5), (25, 3.0), (3, 3.0)]
)
def test_the_fewer_steps_the_longer_the_later_ones(steps: int, last: float) -> None:
    found = effort(SearchSettings(steps=steps), lambda most, least: most)
    assert found.prompts == 32
    assert found.learning_rate == pytest.approx((0.1, last))
    asked = effort(SearchSettings(steps=steps, learning_rate=0.3), lambda most, least: most)
    assert asked.learning_rate == (0.3, 0.3)


def test_the_rate_rises_from_step_to_step(known: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    real = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, *args: object) -> object:
        rates.append(self.param_groups[0]["lr"])
        return real(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    path = search_path(known.splice, known.full, replace(FAST, steps=41, learning_rate=None, batch_size=None))
    assert rates == pytest.approx([0.1 + step / 40 * (80 / 41 - 0.2) for step in range(41)])
    spent = {name: path.settings[name] for name in ("steps", "batch_size", "learning_rate")}
    assert spent == {"steps": "41", "batch_size": "32", "learning_rate": "0.1 to 1.85122"}
    rates.clear()
    assert search_path(known.splice, known.full, FAST).settings["learning_rate"] == "0.3"
    assert set(rates) == {0.3}


def test_attribution_does_not_find_it(known: Planted) -> None:
    # What the search improves on: an effect of either sign averages to nothing in a gradient of the mean.
    order = ranking(attribution_patching(known.splice), known.splice.nodes)
    assert len(known.found(order[:3]) & known.keys) == 2


def counted(effect: torch.Tensor) -> torch.Tensor:
    return torch.where(effect > 0, effect, -0.1 * effect) / effect.abs().mean()


def test_the_search_starts_from_two_gradients_where_nodes_that_hurt_weigh_a_tenth(known: Planted) -> None:
    path = search_path(known.splice, known.full, replace(FAST, learning_rate=0.0, steps=8))
    at_the_model, on_the_way = relevance(known.splice), input_gradients(known.splice, steps=2)
    promise = counted(at_the_model) + counted(on_the_way)
    for circuit in path.circuits[1:]:
        assert (promise[circuit] != 0).all()
        assert circuit.tolist() == ranking(promise, known.splice.nodes)[: len(circuit)].tolist()
    for alone in (at_the_model, on_the_way, at_the_model / at_the_model.abs().mean() + on_the_way):
        assert path.circuits[1].tolist() != ranking(alone, known.splice.nodes)[:10].tolist()


def test_prompts_that_are_not_aligned_start_from_relevance_alone(
    known: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(vars(known.splice.examples), "aligned", False)
    torch.testing.assert_close(search._promise(known.splice), counted(relevance(known.splice)))


def test_where_relevance_has_no_rule_the_search_starts_from_the_gradient(
    known: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "without_a_rule", lambda model: "no rule for the test")
    score = attribution_patching(known.splice)
    found = search._at_the_model(known.splice)
    assert (score != 0).sum() > 20
    torch.testing.assert_close(found[score != 0], score[score != 0])


def test_a_node_on_a_plateau_of_the_unmasked_network_starts_by_what_it_does_elsewhere(
    known: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, asked = len(known.splice.nodes), []
    unmasked = torch.linspace(1, 0, n)
    unmasked[[2, 4]] = 0.0

    def gradient(splice: Splice, mask: float, what: str) -> torch.Tensor:
        asked.append(mask)
        return torch.full((n,), 0.5).index_fill(0, torch.tensor(4), -0.5)

    monkeypatch.setattr(search, "relevance", lambda splice: unmasked)
    monkeypatch.setattr(search, "gradient_at", gradient)
    found = search._at_the_model(known.splice)
    torch.testing.assert_close(found[[2, 4, n - 1]], torch.tensor([0.5, -0.5, 0.5]))
    assert torch.equal(found[5:-1], unmasked[5:-1])
    assert asked == [0.75]
    unmasked = torch.ones(n)
    search._at_the_model(known.splice)
    assert asked == [0.75], "where every node does something no second pass is made"


def test_effects_that_are_all_nothing_have_no_size() -> None:
    assert search._counted(torch.zeros(3)).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("progress", "leash"), [(0.0, 1.0), (0.5, 2.0), (1.0, 4.0)])
@pytest.mark.parametrize(("rate", "steps"), [(0.05, 600), (0.4, 80)])
def test_what_is_learned_is_pulled_back_to_the_start(
    known: Planted, progress: float, leash: float, rate: float, steps: int
) -> None:
    """A push of the same sign at every step ends at a distance that the rate has no part in."""
    spent = Effort(12, (rate, rate))
    run = search._begin(known.splice, spent)
    search._set_pace(run, spent, progress)
    push = torch.linspace(-1, 1, len(run.learned)).sign()
    for _ in range(steps):
        run.learned.grad = push
        run.optimiser.step()
    torch.testing.assert_close(run.scores - run.start, -leash * push, rtol=0.02, atol=0)


def test_the_same_seed_gives_the_same_path_and_another_seed_other_batches(
    known: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[list[int]] = []
    real = Splice.outputs

    def watched(self: Splice, mask: torch.Tensor, chosen: torch.Tensor | slice) -> Outputs:
        if isinstance(chosen, torch.Tensor):
            rows.append(chosen.tolist())
        return real(self, mask, chosen)

    monkeypatch.setattr(Splice, "outputs", watched)
    settings = replace(FAST, steps=12, batch_size=5)
    one, other, third = (search_path(known.splice, known.full, replace(settings, seed=seed)) for seed in (1, 1, 2))
    assert circuits(one) == circuits(other)
    assert rows[:12] == rows[12:24] != rows[24:]
    assert all(len(set(chosen)) == 5 for chosen in rows)
    assert len(third.circuits) == len(one.circuits)


def test_nodes_that_fell_behind_are_folded_away(known: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    real = Splice.outputs

    def watched(self: Splice, mask: torch.Tensor, rows: torch.Tensor | slice) -> Outputs:
        counts.append(len(mask))
        return real(self, mask, rows)

    monkeypatch.setattr(Splice, "outputs", watched)
    search_path(known.splice, known.full, replace(FAST, reserve=2.0))
    assert counts[0] == len(known.splice.nodes)
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < 12
    counts.clear()
    search_path(known.splice, known.full, replace(FAST, reserve=1000.0, steps=5))
    assert set(counts) == {len(known.splice.nodes)}


def test_memory_that_runs_out_halves_the_batch_and_changes_nothing(
    known: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SearchSettings(sizes=tuple(range(1, 24)), steps=30, batch_size=12, learning_rate=0.3)
    expected = search_path(known.splice, known.full, settings)
    real = Splice.outputs
    tried: list[int] = []

    def limited(self: Splice, mask: torch.Tensor, rows: torch.Tensor | slice) -> Outputs:
        count = len(rows) if isinstance(rows, torch.Tensor) else rows.stop - rows.start
        tried.append(count)
        if count > 4:
            raise torch.OutOfMemoryError("for the test")
        return real(self, mask, rows)

    monkeypatch.setattr(Splice, "outputs", limited)
    with pytest.warns(MemoryWarning, match="halved from 8 to 4"):
        found = search_path(known.splice, known.full, settings)
    assert circuits(found) == circuits(expected)
    # 8 to 4 in the attribution, then in the search (where the side of the whole batch is looked up first), and kept.
    assert [count for count in tried if count > 4] == [8, 8]


def test_the_splice_says_how_many_prompts_memory_holds_at_once(known: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[int, list[list[int]]] = {}
    tried: list[int] = []
    real = Splice.outputs

    def watched(self: Splice, mask: torch.Tensor, rows: torch.Tensor | slice) -> Outputs:
        tried.append(len(rows) if isinstance(rows, torch.Tensor) else rows.stop - rows.start)
        return real(self, mask, rows)

    monkeypatch.setattr(Splice, "outputs", watched)
    for at_once in (12, 5):
        splice = known.splice.with_nodes(known.splice.nodes)
        splice = replace(splice, prompts=replace(splice.prompts, batch_size=at_once))
        tried.clear()
        found[at_once] = circuits(search_path(splice, known.full, FAST))
        assert max(tried) == at_once
    # Which nodes fill up the larger circuits, doing next to nothing, is a matter of rounding, which differs by batch.
    assert set(found[5][-1]) == set(found[12][-1])


def test_memory_that_does_not_hold_one_prompt_is_an_error(known: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Splice, mask: torch.Tensor, rows: torch.Tensor | slice) -> Outputs:
        raise torch.OutOfMemoryError("for the test")

    monkeypatch.setattr(Splice, "outputs", never)
    with pytest.warns(MemoryWarning), pytest.raises(GossamerError, match="batch of one"):
        search_path(known.splice, known.full, FAST)


def test_other_errors_are_passed_on(known: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Splice, mask: torch.Tensor, rows: torch.Tensor | slice) -> Outputs:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(Splice, "outputs", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        search_path(known.splice, known.full, FAST)


def test_a_loss_that_is_not_finite_is_refused(model: LanguageModel) -> None:
    found = planted(model)
    for dictionary in found.splice.dictionaries.values():
        dictionary.W_dec.data[2, 0] = torch.nan
    with pytest.raises(NotFiniteError, match=r"mask search: the loss became nan at \d+ nodes"):
        search_path(found.splice, found.full, FAST)


@pytest.mark.parametrize("smallest", range(1, 31))
def test_the_smallest_size_is_always_reached(known: Planted, smallest: int) -> None:
    path = search_path(known.splice, known.full, SearchSettings(sizes=(smallest,), steps=2, batch_size=2))
    assert path.sizes == [smallest]


def test_one_step_is_a_search(known: Planted) -> None:
    path = search_path(known.splice, known.full, replace(FAST, sizes=(10, 4), larger=True, steps=1))
    assert path.sizes[-2:] == [10, 4]
    assert path.sizes[0] == len(known.splice.nodes)


@pytest.mark.parametrize("beyond", [(5000,), (5000, 115, 114), (115,)])
def test_for_sizes_beyond_the_candidates_all_but_one_are_taken(known: Planted, beyond: tuple[int, ...]) -> None:
    path = search_path(known.splice, known.full, replace(FAST, sizes=(*beyond, 4), steps=3))
    assert path.sizes == [len(known.splice.nodes) - 1, 4]
    assert path.settings["sizes"] == str([114, 4])


@pytest.mark.parametrize("sizes", [(0,), (4, -2), ()])
def test_impossible_sizes_are_refused(known: Planted, sizes: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"less than the number of candidates \(115\) expected"):
        search_path(known.splice, known.full, replace(FAST, sizes=sizes))


def test_no_gradient_is_left_in_any_weight(model: LanguageModel) -> None:
    found = planted(model)
    for dictionary in found.splice.dictionaries.values():
        dictionary.requires_grad_(True)
    before = [weight.requires_grad for weight in model.hf.parameters()]
    search_path(found.splice, found.full, replace(FAST, steps=3))
    weights = [*model.hf.parameters(), *(w for one in found.splice.dictionaries.values() for w in one.parameters())]
    assert all(weight.grad is None for weight in weights)
    assert [weight.requires_grad for weight in model.hf.parameters()] == before


def test_circuits_of_more_than_half_the_candidates_are_learned_too(known: Planted) -> None:
    """The planted changing latent is what attribution misses; a large circuit must have been trained to hold it."""
    n = len(known.splice.nodes)
    path = search_path(known.splice, known.full, replace(FAST, sizes=(round(0.7 * n),)))
    held = path.circuits[0]
    order = ranking(attribution_patching(known.splice), known.splice.nodes)[: len(held)]
    assert known.keys <= known.found(held)
    assert set(held.tolist()) != set(order.tolist())


def test_the_run_begins_above_the_largest_size_wanted(known: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(search, "begin", lambda what, total: lambda amount, text: said.append(text))
    n = len(known.splice.nodes)
    for largest, first in ((10, n / 2), (60, 90), (100, 0.9 * n)):
        said.clear()
        search_path(known.splice, known.full, replace(FAST, sizes=(largest, 3), steps=20))
        sizes = [int(text.split()[0]) for text in said]
        assert sizes[0] == round(first)
        assert sum(size > largest for size in sizes) >= 1, "it is learned before it is read off"
        assert sizes[-1] == 3


def test_narrowing_keeps_what_the_optimiser_knows(known: Planted) -> None:
    run = search._begin(known.splice, Effort(12, (0.3, 0.3)))
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        search._step(run, known.full, FAST, 40.0, 1.0, generator)
    narrowed = search._narrowed(run, 25)
    before, after = run.optimiser.state[run.learned], narrowed.optimiser.state[narrowed.learned]
    for moment in ("exp_avg", "exp_avg_sq"):
        assert after[moment].equal(before[moment][narrowed.alive])
        assert before[moment].abs().max() > 0
    assert after["step"] == before["step"] == 3
    assert narrowed.start.equal(run.start[narrowed.alive])
    assert narrowed.scores.equal(run.scores[narrowed.alive])
    # So the next step goes on as it went: with a gradient of zero it is made of what the optimiser knows alone.
    start = narrowed.scores.detach().clone()
    narrowed.learned.grad = torch.zeros_like(narrowed.learned)
    narrowed.optimiser.param_groups[0]["lr"] = 0.3
    narrowed.optimiser.step()
    assert (narrowed.scores.detach() - start).abs().max() > 0.01


def test_circuits_of_every_size_where_larger_ones_are_wanted(known: Planted) -> None:
    splice, full = known.splice, known.full
    settings = replace(FAST, sizes=(40, 5, 3))
    n = len(splice.nodes)
    path = search_path(splice, full, replace(settings, larger=True))
    assert path.sizes == sorted(set(CircuitPath.ranking_sizes((40, 5, 3), n)), reverse=True)
    assert sorted(path.circuits[0].tolist()) == list(range(n)), "the largest is all candidates"
    prefixes = path.circuits[: 1 + sum(size > 0.75 * n for size in path.sizes)]
    assert len(prefixes) >= 2
    for larger, smaller in itertools.pairwise(prefixes):
        assert torch.equal(larger[: len(smaller)], smaller), "beyond what is learned, one order"


@pytest.mark.parametrize("larger", [False, True])
def test_the_largest_circuits_alone_are_those_of_the_whole_run(known: Planted, larger: bool) -> None:
    settings = replace(FAST, larger=larger)
    whole = search_path(known.splice, known.full, settings)
    for only in (1, 3, len(whole.circuits)):
        part = search_path(known.splice, known.full, settings, only=only)
        assert circuits(part) == circuits(whole)[:only]
