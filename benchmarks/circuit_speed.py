"""Time and peak memory of a whole size-faithfulness path: our search, the reference recipe, integrated gradients.

    python benchmarks/circuit_speed.py [--model bundled|tinytalk|stories260k] [--task NAME] [--quick] [--json]

Every method runs in a process of its own, so that its peak memory can be read; what both need (candidates, ablation
values, the cached stream) is made before and not counted in the time. The reference recipe is one run a lambda, over
all latents, as published; --quick runs 2 of its 14 lambdas and scales its time up.
"""

import argparse
import json
import resource
import subprocess
import sys
import warnings
from dataclasses import replace

from settings import Row, row, settings, show

from gossamer.circuits.candidates import every_node
from gossamer.circuits.methods import METHODS
from gossamer.circuits.reference import LAMBDAS, ReferenceSettings, reference_path
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import Study, StudySettings


def main() -> None:
    """Print the rows, or (with --method) measure one method and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled", choices=["bundled", "tinytalk", "stories260k"])
    parser.add_argument("--task", default="ioi")
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument(
        "--method", choices=["mask", "reference recipe", "integrated gradients"], help=argparse.SUPPRESS
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.method:
        print(json.dumps(measured(options)))
        return
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
    """Run this script for one method."""
    command = [sys.executable, __file__, "--model", options.model, "--task", options.task, "--method", method]
    command += ["--prompts", str(options.prompts), *(["--quick"] if options.quick else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{method}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of the path and peak resident memory of this process."""
    warnings.simplefilter("ignore")
    setting = next(iter(settings(options.model, options.task)))
    study = Study(
        setting.model, setting.dictionaries, setting.tasks[options.task], StudySettings(prompts=options.prompts)
    )
    splice, full = study.splice, study.train.full
    splice.batch(slice(0, 1))
    if options.method == "reference recipe" and options.quick:
        chosen = replace(ReferenceSettings(), lambdas=LAMBDAS[::7])
        nodes = every_node(splice.dictionaries, splice.nodes.roles, splice.model.device)
        seconds = reference_path(splice.over(nodes), chosen).seconds * len(LAMBDAS) / len(chosen.lambdas)
    else:
        seconds = METHODS[options.method](splice, full, SearchSettings()).seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mib": peak}


if __name__ == "__main__":
    main()
