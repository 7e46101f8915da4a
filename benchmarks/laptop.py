"""gossamer's commands on small models as users have them, on a laptop: wall time, peak memory, time to the first word.

    python benchmarks/laptop.py --gemma DIR [--smollm DIR] --text FILE [--out DIR] [--only PART] [--quick] [--json]

Every command runs as a process of its own, with nothing but defaults beside what says how much to do: training at
three sites (4,096 latents, 200,000 tokens, fine-tuning included), evaluating those dictionaries on 5,000 tokens, a
circuit for IOI in Gemma. Standard error is a pipe, so that what is timed is also what a log gets. The peak is that of
the command's whole life, as the system counts it. "theirs" is the most that a command may take; for faithfulness in
bfloat16 it is that of the same nodes, on the same prompts, in float32, and for capture the tokens a second that a
laptop's two cores must reach. How much of that is the machine says the row after it: there "theirs" are the tokens a
second that this machine reaches with the matrix products of those layers alone, in the same run.

Dictionaries stay in --out: a second run with --only evaluate, say, finds them there, and one that trains again only
reads them. The numbers mean something on a quiet machine alone.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rows import Row, parser, row, say, show
from torch.nn.functional import linear

from gossamer.circuits.evaluate.rerun import evaluate_circuit
from gossamer.model import LanguageModel
from gossamer.tokens import Tokens

PARTS = ("train", "evaluate", "circuit", "precision", "capture")
FIRST_WORD = 10.0
GIB = 2**30


@dataclass(frozen=True)
class Model:
    """A model's folder, with sites at about a quarter, half and three quarters of its depth."""

    name: str
    folder: str
    sites: str


@dataclass(frozen=True)
class Run:
    """What one command took.

    Attributes:
        seconds: from start to end, or until the file that was waited for was there.
        peak: of its memory, in bytes.
        first_word: seconds to its first line on standard error.
    """

    seconds: float
    peak: int
    first_word: float


def main() -> None:
    """Print the rows."""
    made = parser(__doc__, "20,000 tokens to train on, 1,000 to evaluate on, 32 prompts; the same limits")
    made.add_argument("--gemma", help="a folder of Gemma 3 270M")
    made.add_argument("--smollm", help="a folder of SmolLM2-135M-Instruct")
    made.add_argument("--text", action="append", required=True, help="a .txt or .jsonl file of ordinary text; repeat")
    made.add_argument("--out", type=Path, help="where dictionaries and circuits stay; default: nowhere")
    made.add_argument("--only", action="append", choices=PARTS, help="a part; repeat")
    options = made.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        show(list(rows(options, options.out or Path(scratch))), options.json)


def rows(options: argparse.Namespace, out: Path) -> Iterator[Row]:
    """All that was asked for, model by model."""
    models = [
        Model("Gemma 3 270M", options.gemma, "resid_post.4,resid_post.9,resid_post.14"),
        Model("SmolLM2 135M", options.smollm, "resid_post.7,resid_post.14,resid_post.22"),
    ]
    for model in models:
        if model.folder is None:
            say(f"{model.name}: left out, no folder was given", as_json=True)
            continue
        parts = options.only or PARTS
        work = out / model.name.split()[0].lower()
        if "train" in parts:
            yield from training(model, options, work)
        if "evaluate" in parts:
            yield from evaluating(model, options, work)
        if model.name.startswith("Gemma"):
            yield from of_gemma(model, options, work, parts)


def of_gemma(model: Model, options: argparse.Namespace, work: Path, parts: Sequence[str]) -> Iterator[Row]:
    """The rows of the one model that has them."""
    if "circuit" in parts:
        yield from circuit(model, options, work)
    if "precision" in parts:
        yield precision(model, options, work)
    if "capture" in parts:
        yield from capture(model)


def training(model: Model, options: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Three dictionaries, fitted, fine-tuned and measured."""
    tokens = 20_000 if options.quick else 200_000
    texts = [word for text in options.text for word in ("--text", text)]
    asked = ["--sites", model.sites, "--n-latents", "4096", "--tokens", str(tokens), "--out", str(work), "--json"]
    yield from limits(f"{model.name}: train", run(["train", model.folder, *texts, *asked]), 600, 4)


def evaluating(model: Model, options: argparse.Namespace, work: Path) -> Iterator[Row]:
    """Each dictionary alone; and whether it does what its training said."""
    count = 8 if options.quick else 40
    asked = ["--text", options.text[0], "--dictionaries", str(work / "dictionaries"), "--rows", str(count)]
    yield from limits(f"{model.name}: evaluate", run(["evaluate", model.folder, *asked]), 180, 3)


def circuit(model: Model, options: argparse.Namespace, work: Path) -> Iterator[Row]:
    """IOI, until the circuit is on disk."""
    found = work / "circuit" / "circuit.json"
    yield from limits(f"{model.name}: circuit", run(ioi(model, options, work, found), found), 240, 4)


def precision(model: Model, options: argparse.Namespace, work: Path) -> Row:
    """One circuit, found in float32, in both precisions."""
    path = work / "circuit" / "circuit.json"
    if not path.is_file():
        run(ioi(model, options, work, path), path)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        network = LanguageModel.load(model.folder, dtype=dtype)
        found[dtype] = evaluate_circuit(path, model=network).measured["faithfulness"]
    apart = abs(found[torch.bfloat16] - found[torch.float32])
    what = f"{model.name}: faithfulness of the circuit, bfloat16 beside float32"
    return row(what, found[torch.bfloat16], found[torch.float32], "share", "<= 0.01 apart", apart <= 0.01)


def ioi(model: Model, options: argparse.Namespace, work: Path, found: Path) -> list[str]:
    """The command for a circuit of fixed size, so that two of them can be compared."""
    count = "32" if options.quick else "384"
    asked = ["--dictionaries", str(work / "dictionaries"), "--size", "100", "--prompts", count, "--reruns", "0"]
    return ["circuit", model.folder, "--task", "ioi", *asked, "--compare", "none", "--out", str(found.parent)]


def capture(model: Model) -> list[Row]:
    """Tokens a second through the first 12 layers, and what their matrix products alone leave room for."""
    network = LanguageModel.load(model.folder)
    ids = torch.randint(network.d_vocab, (16, 64), generator=torch.Generator().manual_seed(0))
    speed = ids.numel() / fastest(lambda: network.capture(Tokens.full(ids), ["resid_post.11"]))
    layers = list(network.anatomy.layers)[:12]
    weights = [weight for layer in layers for weight in layer.parameters() if weight.dim() == 2]
    inputs = {weight.shape[1]: torch.ones(ids.numel(), weight.shape[1], dtype=weight.dtype) for weight in weights}
    bound = ids.numel() / fastest(lambda: [linear(inputs[weight.shape[1]], weight) for weight in weights])
    what = f"{model.name}: capture of 12 layers"
    return [
        row(what, speed, 1600, "tokens/s", ">= 1600", speed >= 1600),
        row(f"{what}, beside its products alone", speed, bound, "tokens/s", ">= 0.7x", speed >= 0.7 * bound),
    ]


@torch.no_grad()
def fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest of six runs."""
    times = []
    for _ in range(6):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def limits(what: str, found: Run, seconds: float, gib: float) -> list[Row]:
    """What a command took, against the most that it may take."""
    measured = (("wall time", found.seconds, seconds, "s"), ("peak memory", found.peak / GIB, gib, "GiB"))
    first = ("first word", found.first_word, FIRST_WORD, "s")
    return [
        row(f"{what}, {name}", value, limit, unit, f"<= {limit:g} {unit}", value <= limit)
        for name, value, limit, unit in (*measured, first)
    ]


def run(words: list[str], until: Path | None = None) -> Run:
    """Run a command to its end, or until a file is there (then it is ended).

    Raises:
        SystemExit: it failed; with its last lines.
    """
    heard: list[tuple[float, str]] = []
    begun = time.monotonic()
    command = [sys.executable, "-m", "gossamer", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def listen(lines: Iterable[str]) -> None:
        heard.extend((time.monotonic() - begun, line) for line in lines)

    listener = threading.Thread(target=listen, args=[process.stderr])
    listener.start()
    reached = None
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if until is not None and reached is None and until.is_file():
            reached = time.monotonic() - begun
            process.terminate()
        time.sleep(0.05)
    seconds = reached or time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    listener.join()
    if process.returncode and reached is None:
        last = "".join(line for _, line in heard[-3:]).strip()
        raise SystemExit(f"laptop.py: gossamer {words[0]} failed: {last}")
    kilobytes = 1 if sys.platform == "darwin" else 1024
    return Run(seconds, usage.ru_maxrss * kilobytes, heard[0][0] if heard else seconds)


if __name__ == "__main__":
    main()
