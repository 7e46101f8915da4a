"""Time and peak memory of a whole size-faithfulness path: our search, the reference recipe, integrated gradients.

    python benchmarks/circuit_speed.py [--model bundled|tinytalk|stories260k] [--task NAME] [--quick] [--json]

Every method runs in a process of its own, so that its peak memory can be read. Ablation values, which all of them need,
are measured before the clock starts; finding the candidates and running the full model counts as ours. The reference
recipe is one run a lambda, over all latents, as published; --quick runs 2 of its 14 lambdas and scales its time up.
"""

import argparse
import multiprocessing
import resource
import time
import warnings
from dataclasses import replace

import torch
from rows import Row, parser, row, show
from settings import settings

from gossamer.circuits.candidates import candidates, every_node
from gossamer.circuits.methods import METHODS, MaskedPrompts, MethodInputs
from gossamer.circuits.prompt_metrics import FullModel
from gossamer.circuits.reference import LAMBDAS, ReferenceSettings, reference_path
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.splice import Splice
from gossamer.circuits.study import Study, StudySettings


def main() -> None:
    """Print the rows."""
    made = parser(__doc__, "2 of the reference recipe's 14 lambdas, scaled up")
    made.add_argument("--model", default="bundled", choices=["bundled", "tinytalk", "stories260k"])
    made.add_argument("--task", default="ioi")
    made.add_argument("--prompts", type=int, default=400)
    options = made.parse_args()
    show(list(rows(options)), options.json)


def rows(options: argparse.Namespace) -> list[Row]:
    """Ours beside each of the others."""
    names = ("mask", "reference recipe", "integrated gradients")
    taken = {name: in_process(options, name) for name in names}
    result = []
    for name, target in (("reference recipe", 5.0), ("integrated gradients", None)):
        ours, theirs = taken["mask"], taken[name]
        what = f"{options.model} {options.task}: whole path, {name}"
        wanted = f"{target:g}x faster" if target else "reported"
        held = target is None or theirs["seconds"] >= target * ours["seconds"]
        result.append(row(what, ours["seconds"], theirs["seconds"], "s", wanted, held))
        lighter = ours["peak_mib"] <= 1.02 * theirs["peak_mib"] or target is None
        result.append(row(what, ours["peak_mib"], theirs["peak_mib"], "MiB peak", "no higher", lighter))
    return result


def in_process(options: argparse.Namespace, method: str) -> dict[str, float]:
    """Measure one method in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (options, method))


def measured(options: argparse.Namespace, method: str) -> dict[str, float]:
    """Seconds from ablation values to the whole path, and peak memory of this process (of the GPU, if there is one)."""
    warnings.simplefilter("ignore")
    setting = next(iter(settings(options.model, options.task)))
    chosen = StudySettings(prompts=options.prompts)
    study = Study(setting.model, setting.dictionaries, setting.tasks[options.task], chosen)
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
        METHODS[method](MethodInputs.divided(MaskedPrompts(splice, full), study.sides, SearchSettings()))
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "peak_mib": peak() / 2**20}


def peak() -> float:
    """Bytes: the most that was ever allocated on the GPU, or that this process ever held."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
