"""Everything that a GPU decides, in one run of minutes on one card: what the README says without one is measured here.

    python benchmarks/gpu.py [--out gossamer-out/gpu.json] [--only PART] [--model FOLDER] [--docs docs/gpu.md]
        [--minutes 8] [--quick] [--dry-run] [--json]

Parts: kernels (Triton's beside masks, values and time), search (a mask search on the shape of Gemma 2 9B with four
dictionaries of 16,384 latents, random weights), jax (an edit under cond beside where), trainers (train_dictionary.py),
smollm2 (a real model from nothing to a circuit; its folder is --model, or looked for in ../shared/real).

What a part measured lies in --out at once, and is not measured again there: a run that was stopped goes on. A part that
fails says so in one line and the next one runs; after --minutes no further part begins. --dry-run does everything tiny
on whatever there is. --docs writes the page of what --out holds.
"""

import argparse
import os
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rows import Row, parser, say, show

# JAX would take three quarters of the card, and torch is on it as well.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def main() -> None:
    """Measure what is not measured yet, and print all of it; exit code 1 if a part failed."""
    options = arguments()
    import torch

    if not torch.cuda.is_available():
        if not options.dry_run:
            sys.exit("gpu.py: a GPU expected, found none; --dry-run tries everything on the CPU")
        # Triton settles with its first import whether its kernels run on a CPU.
        os.environ.setdefault("TRITON_INTERPRET", "1")
    from gpu_parts import PARTS, SCALES

    from gossamer.errors import UsageError

    scale = SCALES["dry-run" if options.dry_run else "quick" if options.quick else "full"]
    unknown = sorted(set(options.only) - set(PARTS))
    if unknown:
        sys.exit(f"gpu.py: --only: parts among {', '.join(PARTS)} expected, found {', '.join(unknown)}")
    try:
        record = opened(options.out, {"scale": scale.name, **machine()})
    except UsageError as error:
        sys.exit(f"gpu.py: {error}")
    began = time.monotonic()
    for name in options.only or PARTS:
        if name in record["parts"]:
            say(f"{name}: measured already, in {options.out}", as_json=True)
        elif time.monotonic() - began > 60 * options.minutes:
            record["failed"][name] = f"not begun: {options.minutes:g} minutes were over"
        else:
            measure(record, name, lambda name=name: PARTS[name](scale, options.model))
            write(options.out, record)
    if options.docs is not None:
        options.docs.write_text(page(record), encoding="utf-8")
    show([found for part in record["parts"].values() for found in part["rows"]], options.json)
    for name, error in record["failed"].items():
        say(f"{name}: {error}", as_json=True)
    sys.exit(bool(record["failed"]))


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    made = parser(__doc__, "one size of kernels, fewer turns and steps")
    made.add_argument("--out", type=Path, default=Path("gossamer-out/gpu.json"), help="where results are kept")
    made.add_argument("--only", action="append", default=[], help="this part (several: give it again)")
    made.add_argument("--model", type=Path, help="a folder of SmolLM2")
    made.add_argument("--docs", type=Path, help="write a page of the results to this file")
    made.add_argument("--minutes", type=float, default=8, help="after these no further part begins")
    made.add_argument("--dry-run", action="store_true", help="everything tiny, on a CPU too")
    return made.parse_args()


def measure(record: dict[str, Any], name: str, part: Any) -> None:
    """Run one part and keep its rows, or the line that says why there are none."""
    say(f"{name} ...", as_json=True)
    began = time.perf_counter()
    record["failed"].pop(name, None)
    try:
        rows: list[Row] = part()
    # Whatever goes wrong in one part, the card's minutes go to the others; all of them say it in one line.
    except (Exception, SystemExit) as error:
        first = (str(error).strip() or "no reason given").splitlines()[0]
        record["failed"][name] = f"{type(error).__name__}: {first}"
        say(f"{name}: failed: {record['failed'][name]}", as_json=True)
        return
    record["parts"][name] = {"rows": rows, "seconds": round(time.perf_counter() - began, 1)}


def machine() -> dict[str, str]:
    """The card and what drives it."""
    import torch

    found = {"card": "none (CPU)", "driver": "none"}
    if torch.cuda.is_available():
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        try:
            driver = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[0]
        except (OSError, subprocess.CalledProcessError, IndexError):
            driver = "unknown"
        found = {"card": torch.cuda.get_device_name(), "driver": driver}
    for name in ("torch", "triton", "jax", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def opened(path: Path, here: dict[str, str]) -> dict[str, Any]:
    """The record of a file, or a new one; parts that failed there are tried again.

    Raises:
        UsageError: the file is of another machine, version or scale.
    """
    from gossamer.errors import UsageError
    from gossamer.files import read_json

    if not path.exists():
        return {"machine": here, "parts": {}, "failed": {}}
    record = read_json(path)
    if not isinstance(record, dict) or record.keys() != {"machine", "parts", "failed"}:
        raise UsageError(f"{path}: results of this script expected, found something else; give another --out")
    if record["machine"] != here:
        raise UsageError(f"{path}: results of {here} expected, found those of {record['machine']}; give another --out")
    return {**record, "failed": {}}


def write(path: Path, record: dict[str, Any]) -> None:
    """Replace the file as a whole."""
    from gossamer.files import write_json

    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record)


def page(record: dict[str, Any]) -> str:
    """All results as Markdown."""
    facts = record["machine"]
    lines = [
        f"# On a GPU: {facts['card']}",
        "",
        f"`python benchmarks/gpu.py --docs docs/gpu.md`, scale {facts['scale']}: driver {facts['driver']}, "
        + ", ".join(f"{name} {facts[name]}" for name in ("torch", "triton", "jax", "transformers"))
        + ". Every row is measured side by side in one run; `theirs` is what the row's name ends in, or the published "
        "or stated number.",
    ]
    for name, part in record["parts"].items():
        lines += ["", f"## {name} ({part['seconds']:g} s)", ""]
        lines += ["| what | ours | theirs | unit | ratio | target | holds |", "|---|---|---|---|---|---|---|"]
        lines += [
            f"| {one['what']} | {one['ours']:g} | {one['theirs']:g} | {one['unit']} | {one['ratio']} "
            f"| {one['target']} | {'yes' if one['holds'] else 'no'} |"
            for one in part["rows"]
        ]
    if record["failed"]:
        lines += ["", "## Not measured", "", *(f"- {name}: {error}" for name, error in record["failed"].items())]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
