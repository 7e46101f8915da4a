"""How few nodes could keep a task: subsets fitted to the test prompts themselves, which no honest search may see.

    python benchmarks/circuit_bounds.py [--model bundled|tinytalk|stories260k|all] [--task NAME] [--quick] [--json]
    python benchmarks/circuit_bounds.py --model FOLDER -d DICTIONARIES -t PROMPTS.jsonl    # on your own ground

The claim in question is half of the nodes that signed integrated gradients need to keep 95 % of what the dictionaries
keep. At that half, from several starts (the shipped search, the gradients' first nodes, their larger circuit with its
cheapest nodes taken out, a mask fitted to the same prompts, nodes added one at a time), nodes are exchanged for others,
one by one, each exchange measured exactly, until none of those that promise most to first order keeps more of the
metric's mean. Once the prompts are the training prompts, and the test says what that is worth elsewhere; once they are
the test prompts. From there nodes are taken out, and others exchanged, for as long as 95 % are kept on the test.

What that says: a subset that is found exists. One that is not found may exist all the same: local search proves no
lower bound. Where the test's own best is far above the shipped search, and the same exchanges on training prompts are
no better on the test than the shipped search is, what is missing is generalisation, not optimisation. Of the bundled
model's tasks, unless -t names some, sva-simple and sva-rc. A task with fewer than ten held-out texts is cautioned of in
every row, and none of its rows says that it holds.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from rows import Row, cautioned, parser, row, say, show
from settings import add_setting, cautions, errors_in_one_line, refused_in_one_line, settings
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.evaluate.comparison import GRADIENTS, family
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.leave_out import each_left_out
from gossamer.circuits.methods import METHODS
from gossamer.circuits.path import SIZES, CircuitPath
from gossamer.circuits.prompt_metrics import Network
from gossamer.circuits.search import SearchSettings, search_path
from gossamer.circuits.study import Study, StudySettings

SHARE = 0.95
TASKS = ("sva-simple", "sva-rc")
# Nodes that could leave and that could come, of which pairs are tried; pairs tried in a round; nodes tried for a place.
_WIDTH, _PAIRS, _TRIED = 16, 48, 8
# A circuit that keeps more by less than this keeps the same.
_SAME = 1e-5

Circuit = Int[Tensor, "chosen"]


@dataclass(frozen=True)
class Fitted:
    """Exact local search for subsets that keep most of the metric's mean on an evaluator's prompts."""

    prompts: Evaluator

    def kept(self, circuit: Circuit) -> float:
        """Faithfulness of a circuit, positions in the candidates."""
        return self.prompts.kept(self.prompts.splice.nodes.select(circuit))

    def costs(self, circuit: Circuit) -> Float[Tensor, "chosen"]:
        """What it keeps less without each node, exactly."""
        splice, full = self.prompts.splice, self.prompts.full

        def measure(network: Network) -> float:
            return full.kept(network, splice.batch_size)

        return self.kept(circuit) - each_left_out(splice, splice.nodes.select(circuit), measure, "leaving out")

    def gains(self, circuit: Circuit) -> Float[Tensor, "node"]:
        """What it keeps more with each other candidate, to first order; minus infinity for its own nodes."""
        splice, full = self.prompts.splice, self.prompts.full
        mask = torch.zeros(len(splice.nodes)).index_fill(0, circuit, 1.0)

        def part(rows: slice) -> Tensor:
            leaf = mask.clone().requires_grad_()
            return torch.autograd.grad(full.excess(splice.outputs(leaf, rows), rows).sum(), leaf)[0]

        slope = torch.stack(in_batches(len(splice.examples), splice.batch_size, part)).sum(dim=0)
        return (slope / len(splice.examples)).index_fill(0, circuit, -torch.inf)

    def exchanged(self, circuit: Circuit, enough: float) -> Circuit:
        """As many nodes, exchanged one by one until it keeps `enough` or no exchange that was tried keeps more."""
        now = self.kept(circuit)
        while now < enough:
            before = now
            costs, gains = self.costs(circuit), self.gains(circuit)
            out = torch.argsort(costs)[:_WIDTH]
            into = torch.argsort(gains, descending=True)[: min(_WIDTH, len(gains) - len(circuit))]
            promise = gains[into].double().unsqueeze(0) - costs[out].unsqueeze(1)
            pairs = [divmod(int(pair), len(into)) for pair in torch.argsort(promise.flatten(), descending=True)]
            used: set[tuple[str, int]] = set()
            for leaving, coming in pairs[:_PAIRS]:
                if ("out", leaving) in used or ("in", coming) in used:
                    continue
                trial = circuit.clone()
                trial[out[leaving]] = into[coming]
                value = self.kept(trial)
                if value > now + _SAME:
                    circuit, now = trial, value
                    used |= {("out", leaving), ("in", coming)}
                if now >= enough:
                    break
            if now <= before + _SAME:
                break
        return circuit

    def grown(self, circuit: Circuit, enough: Callable[[Circuit], bool]) -> Circuit:
        """With the node more that keeps most, of those that promise most, until it is `enough` or has all of them."""
        while not enough(circuit) and len(circuit) < len(self.prompts.splice.nodes):
            left = len(self.prompts.splice.nodes) - len(circuit)
            promising = torch.argsort(self.gains(circuit), descending=True)[: min(_TRIED, left)]
            circuit = max((torch.cat([circuit, node.reshape(1)]) for node in promising), key=self.kept)
        return circuit

    def shrunk(self, circuit: Circuit, size: int) -> Circuit:
        """`size` of its nodes: the cheapest go, an eighth of what must go at a time."""
        while len(circuit) > size:
            leaving = max((len(circuit) - size) // 8, 1)
            order = torch.argsort(self.costs(circuit))
            circuit = circuit[torch.sort(order[leaving:]).values]
        return circuit

    def smallest(self, circuit: Circuit, enough: float) -> Circuit | None:
        """Grown until it keeps `enough`; then smaller, with exchanges, for as long as it does. None: it never does."""
        circuit = self.grown(circuit, lambda one: self.kept(one) >= enough)
        if self.kept(circuit) < enough:
            return None
        while len(circuit) > 1:
            order, left = torch.argsort(self.costs(circuit), descending=True), len(circuit)
            while left > 1 and self.kept(circuit[order[: left - 1]]) >= enough:
                left -= 1
            if left == len(circuit):
                shorter = self.exchanged(circuit[order[:-1]], enough)
                if self.kept(shorter) < enough:
                    break
                circuit = shorter
            else:
                circuit = circuit[order[:left]]
        return circuit


@dataclass(frozen=True)
class Bound:
    """What subsets of half of signed gradients' nodes keep, and who needs how many.

    Attributes:
        wanted: faithfulness that is asked for on the test: 95 % of what the dictionaries keep.
        gradients, mask: nodes from which on signed gradients and the shipped search keep it; None: never. Gradients
            that never do are counted with all candidates.
        half: nodes of the subsets.
        of_gradients, of_mask: what theirs of so many nodes keep on the test.
        trained: of each start, what exchanges on the training prompts keep there and on the test.
        tested: of each start, what exchanges on the test prompts keep there.
        prompt_error: of the best of these: mean distance of a prompt's metric from the model's, in faithfulness.
        smallest: nodes of the smallest subset that was found to keep what is wanted on the test; None: there is none.
    """

    wanted: float
    gradients: int
    mask: int | None
    half: int
    of_gradients: float
    of_mask: float
    trained: dict[str, tuple[float, float]]
    tested: dict[str, float]
    prompt_error: float
    smallest: int | None


def bound(study: Study, search: SearchSettings, report: Callable[[str], None]) -> Bound:
    """Search on the training and on the test prompts of a study."""
    names = [name for name in METHODS if family(name) == GRADIENTS and name.endswith(", signed")]
    rankings = study.paths(names, search)
    test, training = Fitted(study.evaluator), Fitted(study.train)
    wanted = SHARE * study.evaluator.faithfulness(study.evaluator.dictionaries)
    sizes = [needed(test, path, wanted) or len(study.nodes) for path in rankings]
    most, gradients = min(zip(sizes, rankings, strict=True), key=lambda one: one[0])
    half = most // 2
    mask = study.paths(["mask"], replace(search, sizes=(*SIZES, half)))[0]
    by_mask = needed(test, mask, wanted)
    report(f"{len(study.nodes)} candidates, {wanted:.3f} wanted; nodes: gradients {most}, mask {by_mask}")

    def ended(fitted: Fitted, enough: float) -> Iterator[tuple[str, Circuit]]:
        for start, circuit in starts(fitted, mask, gradients, most, half):
            found = fitted.exchanged(circuit, enough)
            report(
                f"{start}: {fitted.kept(circuit):.3f}, exchanged {fitted.kept(found):.3f}; test {test.kept(found):.3f}"
            )
            yield start, found

    # On training prompts a circuit does more than elsewhere: there exchanges go on up to the model itself.
    tested, trained = dict(ended(test, wanted)), dict(ended(training, 1.0))
    best = max(tested.values(), key=test.kept)
    metrics = study.evaluator.prompt_metrics(study.nodes.select(best))
    least = test.smallest(best, wanted)
    return Bound(
        wanted,
        most,
        by_mask,
        half,
        test.kept(first(gradients, half)),
        test.kept(first(mask, half)),
        {start: (training.kept(one), test.kept(one)) for start, one in trained.items()},
        {start: test.kept(one) for start, one in tested.items()},
        study.evaluator.task_metrics("best", metrics).prompt_error.value,
        None if least is None else len(least),
    )


def starts(
    fitted: Fitted, mask: CircuitPath, gradients: CircuitPath, most: int, half: int
) -> Iterator[tuple[str, Circuit]]:
    """Circuits of `half` nodes that exchanges begin with."""
    yield "mask", fitted.grown(first(mask, half), lambda one: len(one) >= half)
    yield "signed gradients", first(gradients, half)
    yield "signed gradients, taken out", fitted.shrunk(first(gradients, most), half)
    own_search = SearchSettings(sizes=(half,), steps=400, batch_size=32)
    yield "mask fitted here", search_path(fitted.prompts.splice, fitted.prompts.full, own_search).circuits[0]
    yield "one at a time", fitted.grown(torch.zeros(0, dtype=torch.long), lambda one: len(one) >= half)


def first(path: CircuitPath, size: int) -> Circuit:
    """A ranking's first nodes; of a search the largest circuit that is no larger."""
    return path.of_size(size) if path.scores is None else path.circuits[0][:size]


def needed(fitted: Fitted, path: CircuitPath, wanted: float) -> int | None:
    """Size from which on all larger circuits keep `wanted`."""
    reached = None
    for circuit in path.circuits:
        if fitted.kept(circuit) < wanted:
            break
        reached = len(circuit)
    return reached


def rows(title: str, found: Bound) -> Iterator[Row]:
    """What was found beside what is asked for."""
    what = f"{title}: {found.half} nodes, half of signed gradients' {found.gradients}:"
    trained = max(found.trained.values())
    for name, value in (
        ("signed gradients", found.of_gradients),
        ("the shipped search", found.of_mask),
        ("exchanges on training prompts, kept there", trained[0]),
        ("the same on the test", trained[1]),
        ("exchanges on the test prompts", max(found.tested.values())),
    ):
        yield row(f"{what} {name}", value, found.wanted, "faithfulness", "wanted", value >= found.wanted)
    yield row(f"{what} per-prompt error of the last", found.prompt_error, 0.0, "faithfulness", "reported", True)
    fewer = found.smallest is not None and found.smallest <= found.half
    yield row(
        f"{title}: smallest subset on the test itself",
        found.smallest or 0,
        found.gradients,
        "nodes",
        "at most half",
        fewer,
    )
    yield row(f"{title}: the shipped search", found.mask or 0, found.gradients, "nodes", "reported", True)


def main() -> None:
    """Print the rows."""
    made = parser(__doc__, "96 training prompts, 60 steps of the mask search")
    add_setting(made)
    made.add_argument("--prompts", type=int, default=400, help="training prompts at most")
    made.add_argument("--steps", type=int, default=100, help="gradient steps of the shipped search")
    options = made.parse_args()
    with errors_in_one_line():
        show(list(_all(options)), options.json)


def _all(options: argparse.Namespace) -> Iterator[Row]:
    chosen = StudySettings(prompts=96 if options.quick else options.prompts)
    search = SearchSettings(larger=True, steps=60 if options.quick else options.steps)
    for setting in settings(options):
        for name, task in setting.tasks.items():
            if setting.name == "bundled" and not options.task and name not in TASKS:
                continue
            title = f"{setting.name} {name}"
            warned = cautions(title, task)
            with refused_in_one_line(title):
                study = Study(setting.model, setting.dictionaries, task, chosen)
                yield from cautioned(rows(title, bound(study, search, partial(_said, title))), warned)


def _said(title: str, text: str) -> None:
    say(f"{title}: {text}", as_json=True)


if __name__ == "__main__":
    main()
