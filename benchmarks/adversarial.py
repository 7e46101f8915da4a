"""Prompts that break a model: searches with its circuit beside searches without, at the same number of passes.

    python benchmarks/adversarial.py [--circuit circuit.json] [--quick] [--json]
    python benchmarks/adversarial.py --model FOLDER -d DICTIONARIES [-t ioi] [--size 40]    # your own ground

A row compares the circuit's arm with another: held-out prompts that the recipe each comes to breaks. It holds where the
circuit is ahead by more than chance, prompt by prompt and search by search; where none does, the circuit added nothing.
A circuit is found first, of 256 prompts unless -n says otherwise. A task is one whose right answers can be worked out
again after an edit: by its name (ioi, code-key, code-index, sva-...), or a file of it that `gossamer tasks NAME --save`
or `Task.save` wrote. Other files of prompts are refused.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from rows import Row, parser, row, say, show
from settings import add_setting, errors_in_one_line, settings

from gossamer import DictionarySet, LanguageModel, bundled, find_circuit
from gossamer.circuits.adversarial import AdversarialResults, AdversarialSettings, adversarial_study
from gossamer.circuits.adversarial.edits import edit_space
from gossamer.circuits.adversarial.results import CIRCUIT
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate import rerun
from gossamer.circuits.search import SearchSettings
from gossamer.tasks import Task, get

# Tasks of the bundled model, with the number of nodes of their circuits.
TASKS = {"code-key": 150, "code-index": 40, "ioi": 40, "sva-rc": 40}
QUICK = {"code-index": 40}
PROMPTS = 256


Source = tuple[Circuit, LanguageModel, DictionarySet]


def sources(asked: argparse.Namespace) -> Iterator[Source]:
    """Circuits with what they are of: saved ones, of a model of one's own, or of the bundled model."""
    steps = 40 if asked.quick else 100
    if asked.circuit:
        yield from map(saved_circuit, asked.circuit)
    elif asked.dictionaries:
        setting = next(settings(asked))
        for task in setting.tasks.values():
            require_edits(task)
        for task in setting.tasks.values():
            yield found_circuit(setting.model, setting.dictionaries, task, asked.size, steps)
    else:
        model = LanguageModel.load("bundled:spool")
        dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries")
        for name, size in (QUICK if asked.quick else TASKS).items():
            prompts = get(name).generate(model.tokenizer, n=PROMPTS, bos=True)
            yield found_circuit(model, dictionaries, prompts, size, steps)


def require_edits(task: Task) -> None:
    """Refuse a task without edits before a circuit is sought.

    Raises:
        UsageError: its right answers cannot be worked out again; the message has the tasks whose can.
    """
    edit_space(task.name, task.provenance, (*task.train.prompts, *task.test.prompts), 0)


def found_circuit(model: LanguageModel, dictionaries: DictionarySet, task: Task, size: int, steps: int) -> Source:
    """A circuit of so many nodes."""
    search = SearchSettings(sizes=(size,), steps=steps)
    return find_circuit(model, dictionaries, task, size=size, search=search).circuit, model, dictionaries


def saved_circuit(path: Path) -> Source:
    """A circuit from its file, with what it was found in."""
    circuit = Circuit.load(path)
    model = rerun.circuit_model(circuit, beside=path.parent)
    return circuit, model, rerun.circuit_dictionaries(circuit, None, path.parent, model)


def compared(found: AdversarialResults) -> list[Row]:
    """The circuit's arm beside each other one."""
    own, rows = found.arm(CIRCUIT), []
    for one in found.comparisons:
        other = found.arm(one.letter)
        what = f"{found.task}, {found.model}: circuit beside {other.name}"
        unit = f"of {len(own.held_out)}"
        rows.append(row(what, sum(own.held_out), sum(other.held_out), unit, "ahead, p < .05 twice", one.ahead))
    return rows


def main() -> None:
    made = parser(__doc__, "one task, few searches")
    made.add_argument("--circuit", type=Path, action="append", help="a saved circuit instead of the bundled ones")
    made.add_argument("--size", type=int, default=40, help="with -d: nodes of the circuit that is found first")
    add_setting(made)
    made.set_defaults(n=PROMPTS)
    asked = made.parse_args()
    if not asked.dictionaries and (asked.model != "bundled" or asked.task):
        made.error("--model, --task: with -d, of a model of your own (its own dictionaries are those of bundled:spool)")
    chosen = AdversarialSettings(budget=64, searches=6, held_out=40) if asked.quick else AdversarialSettings()
    rows = []
    with errors_in_one_line():
        for circuit, model, dictionaries in sources(asked):
            found = adversarial_study(circuit, model, dictionaries, settings=chosen)
            say(found.verdict, asked.json)
            for arm in found.arms:
                share = f"{arm.share:.0%} by the mean search"
                say(f"  {arm.letter} {sum(arm.held_out):>4}  {share}  {' + '.join(arm.recipe)}", asked.json)
            rows += compared(found)
    show(rows, asked.json)


if __name__ == "__main__":
    main()
