"""Time and peak memory of a whole size-faithfulness path: our search, the reference recipe, integrated gradients.

    python benchmarks/circuit_speed.py [--model bundled|tinytalk|stories260k] [--task NAME] [--quick] [--json]
    python benchmarks/circuit_speed.py --model FOLDER -d DICTIONARIES -t PROMPTS.jsonl [--no-bos]    # your own ground

Every method runs in a process of its own, so that its peak memory can be read. Ablation values, which all of them need,
are measured before the clock starts; finding the candidates and running the full model counts as ours. The reference
recipe is one run a lambda, over all latents, as published; --quick runs 2 of its 14 lambdas and scales its time up.
Each task that is named has processes of its own; without -t it is ioi (of stories260k, which has no other, pronoun).
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from rows import Row, parser, row, show
from settings import add_setting, errors_in_one_line, refused_in_one_line, settings

from gossamer.circuits.candidates import candidates, every_node
from gossamer.circuits.methods import METHODS, MaskedPrompts, MethodInputs
from gossamer.circuits.prompt_metrics import FullModel
from gossamer.circuits.reference import LAMBDAS, ReferenceSettings, reference_path
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.splice import Splice
from gossamer.circuits.study import Study, StudySettings

# What stands beside ours, and how many times faster ours is to be.
BESIDE = {"reference recipe": 5.0, "integrated gradients": None}


class Taken(NamedTuple):
    """What one method took for the whole path of a task of this `title`."""

    title: str
    seconds: float
    peak_mib: float


def main() -> None:
    """Print the rows."""
    made = parser(__doc__, "2 of the reference recipe's 14 lambdas, scaled up")
    add_setting(made)
    made.add_argument("--compare", action="append", choices=BESIDE, help="one method beside ours; default: both")
    made.add_argument("--prompts", type=int, default=400, help="training prompts at most")
    made.add_argument("--steps", type=int, default=SearchSettings().steps, help="gradient steps of the mask search")
    options = made.parse_args()
    if options.model == "all":
        made.error("--model: one model expected, found all: every method has a process of its own")
    found: list[Row] = []
    with errors_in_one_line():
        for task in options.task or ["pronoun" if options.model == "stories260k" else "ioi"]:
            with refused_in_one_line(f"{options.model} {task}"):
                found += rows(argparse.Namespace(**{**vars(options), "task": [task]}))
    show(found, options.json)


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Ours beside each of the others, for the one task of the options."""
    ours = in_process(options, "mask")
    for name in options.compare or BESIDE:
        theirs, target = in_process(options, name), BESIDE[name]
        what = f"{ours.title}: whole path, {name}"
        wanted = f"{target:g}x faster" if target else "reported"
        held = target is None or theirs.seconds >= target * ours.seconds
        yield row(what, ours.seconds, theirs.seconds, "s", wanted, held)
        lighter = ours.peak_mib <= 1.02 * theirs.peak_mib or target is None
        yield row(what, ours.peak_mib, theirs.peak_mib, "MiB peak", "no higher", lighter)


def in_process(options: argparse.Namespace, method: str) -> Taken:
    """Measure one method in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (options, method))


def measured(options: argparse.Namespace, method: str) -> Taken:
    """Seconds from ablation values to the whole path, and peak memory of this process (of the GPU, if there is one)."""
    setting = next(settings(options))
    ((name, task),) = setting.tasks.items()
    study = Study(setting.model, setting.dictionaries, task, StudySettings(prompts=options.prompts))
    _ = study.attachments  # refuses dictionaries that do not fit
    common = (study.model, study.dictionaries, study.examples, study.ablation)
    began = time.perf_counter()
    nodes = every_node(study.dictionaries, study.task.role_names, study.model.device)
    if method == "reference recipe":
        lambdas = LAMBDAS[::7] if options.quick else LAMBDAS
        reference_path(Splice.of(*common, nodes), replace(ReferenceSettings(), lambdas=lambdas))
        seconds = (time.perf_counter() - began) * len(LAMBDAS) / len(lambdas)
    else:
        # Ours to pay for, because the reference recipe needs neither: the candidates, and the full model's answers.
        splice = Splice.of(*common, candidates(Splice.of(*common, nodes.none())))
        full = FullModel.measure(splice.full, splice.examples)
        METHODS[method](
            MethodInputs.divided(MaskedPrompts(splice, full), study.sides, SearchSettings(steps=options.steps))
        )
        seconds = time.perf_counter() - began
    return Taken(f"{setting.name} {name}", seconds, peak() / 2**20)


def peak() -> float:
    """Bytes: the most that was ever allocated on the GPU, or that this process ever held."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
