"""Prompts that break a model: searches with its circuit beside searches without, at the same number of passes.

    python benchmarks/adversarial.py [--circuit circuit.json] [--quick] [--json]

A row compares the circuit's arm with another: held-out prompts that the recipe each comes to breaks. It holds where the
circuit is ahead by more than chance, prompt by prompt and search by search; where none does, the circuit added nothing.
"""

from pathlib import Path

from rows import Row, parser, row, say, show

from gossamer import DictionarySet, LanguageModel, bundled, find_circuit
from gossamer.circuits.adversarial import AdversarialResults, AdversarialSettings, adversarial_study
from gossamer.circuits.adversarial.results import CIRCUIT
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate import rerun
from gossamer.circuits.search import SearchSettings
from gossamer.tasks import get

# Tasks of the bundled model, with the number of nodes of their circuits.
TASKS = {"code-key": 150, "code-index": 40, "ioi": 40, "sva-rc": 40}
QUICK = {"code-index": 40}


def bundled_circuit(task: str, size: int, steps: int) -> tuple[Circuit, LanguageModel, DictionarySet]:
    """A circuit of the bundled model."""
    model = LanguageModel.load("bundled:spool")
    dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries")
    prompts = get(task).generate(model.tokenizer, n=256, bos=True)
    search = SearchSettings(sizes=(size,), steps=steps)
    return find_circuit(model, dictionaries, prompts, size=size, search=search).circuit, model, dictionaries


def saved_circuit(path: Path) -> tuple[Circuit, LanguageModel, DictionarySet]:
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
    asked = made.parse_args()
    settings = AdversarialSettings(budget=64, searches=6, held_out=40) if asked.quick else AdversarialSettings()
    if asked.circuit:
        sources = (saved_circuit(path) for path in asked.circuit)
    else:
        tasks = QUICK if asked.quick else TASKS
        sources = (bundled_circuit(task, size, 40 if asked.quick else 100) for task, size in tasks.items())
    rows = []
    for circuit, model, dictionaries in sources:
        found = adversarial_study(circuit, model, dictionaries, settings=settings)
        say(found.verdict, asked.json)
        for arm in found.arms:
            share = f"{arm.share:.0%} by the mean search"
            say(f"  {arm.letter} {sum(arm.held_out):>4}  {share}  {' + '.join(arm.recipe)}", asked.json)
        rows += compared(found)
    show(rows, asked.json)


if __name__ == "__main__":
    main()
