"""What circuits do on words that no search saw, beside what is expected of them, and means that are levelled to it.

    python benchmarks/unseen_words.py [--model bundled|tinytalk|stories260k|all] [--task NAME] [--quick] [--json]
    python benchmarks/unseen_words.py --model FOLDER -d DICTIONARIES -t PROMPTS.jsonl [--no-bos]   # your own ground

A second search that leaves out the validation prompts says what circuits of each size lose on words that they were not
fitted to; a circuit's mean on all training prompts less that is what is expected of others. Rows: how far the test is
from what was expected beside how far it is from the mean on the training prompts; and, of the circuits that are
levelled, how far the test's mean is from the full model's after it beside before. Circuits are searched, without the
other exact steps. A task that has no words of their own for each side has them in common here.
"""

import argparse
from collections.abc import Iterator
from statistics import fmean

from jaxtyping import Int
from rows import Row, cautioned, parser, row, say, show
from settings import add_setting, cautions, errors_in_one_line, refused_in_one_line, settings
from torch import Tensor

from gossamer.circuits.levelling import LEAST_LEVELLED, levelled
from gossamer.circuits.measured_circuit import MeasuredCircuit
from gossamer.circuits.methods import searched
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import Study, StudySettings


def rows(title: str, study: Study, search: SearchSettings) -> Iterator[Row]:
    """A row for what is expected, and one for what is levelled."""
    given = study.method_inputs(search)
    path = searched(given)
    refiner = given.refiner(path)
    known, validation = refiner.unseen(), refiner.validation
    if known is None or validation is None:
        say(f"{title}: left out, no prompts are held apart", as_json=True)
        return

    def measured(circuit: Int[Tensor, "chosen"]) -> MeasuredCircuit:
        return MeasuredCircuit(circuit, refiner.found, validation.found)

    expected, fitted, before, after = [], [], [], []
    for circuit in path.circuits:
        if len(circuit) < LEAST_LEVELLED:
            continue
        found = measured(circuit)
        lost = known.at(len(circuit)) - found.missed
        kept = _excess(study, circuit)
        new = levelled(found, lost, lambda one: refiner.slope(one.circuit), measured)
        foretold, levelled_to = found.mean_excess + lost.mean().item(), kept
        if new is not found:
            levelled_to = _excess(study, new.circuit)
            before.append(abs(kept))
            after.append(abs(levelled_to))
        expected.append(abs(kept - foretold))
        fitted.append(abs(kept - found.mean_excess))
        means = f"training {found.mean_excess:+.3f}, expected {foretold:+.3f}, test {kept:+.3f}"
        say(f"{title}, {len(circuit)} nodes: {means}, levelled {levelled_to:+.3f}", as_json=True)
    what = f"{title}: mean distance of the test from"
    yield row(f"{what} what is expected, from the training mean", fmean(expected), fmean(fitted), "", "reported", True)
    if before:
        holds = fmean(after) <= fmean(before)
        yield row(f"{what} the model, {len(before)} levelled", fmean(after), fmean(before), "", "no farther", holds)


def _excess(study: Study, circuit: Int[Tensor, "chosen"]) -> float:
    return study.evaluator.kept(study.nodes.select(circuit)) - 1


def main() -> None:
    """Print the rows."""
    made = parser(__doc__, "96 training prompts, 40 steps")
    add_setting(made)
    made.add_argument("--steps", type=int, default=100, help="gradient steps of a search")
    made.add_argument("--seed", type=int, default=0)
    options = made.parse_args()
    with errors_in_one_line():
        show(list(_all(options)), options.json)


def _all(options: argparse.Namespace) -> Iterator[Row]:
    search = SearchSettings(larger=True, steps=40 if options.quick else options.steps, seed=options.seed)
    chosen = StudySettings(prompts=96 if options.quick else 512, seed=options.seed)
    for setting in settings(options):
        for name, task in setting.tasks.items():
            title = f"{setting.name} {name}"
            with refused_in_one_line(title):
                study = Study(setting.model, setting.dictionaries, task, chosen)
                yield from cautioned(rows(title, study, search), cautions(title, task))


if __name__ == "__main__":
    main()
