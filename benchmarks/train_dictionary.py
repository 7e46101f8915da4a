"""Training a dictionary on cached activations: tokens a second, peak memory and explained variance, beside the others.

    python benchmarks/train_dictionary.py [--objective topk|batchtopk|both] [--threads 1] [--quick] [--json]

SAELens (TopK also with its sparse option), sparsify (TopK) and, where it is importable, dictionary_learning, each in a
process of its own that lives for the whole run. They take turns of a few steps, so that what else the machine does
meets all of them; times are medians over the turns. dictionary_learning 0.1.0 wants an old nnsight and comes from
nowhere by itself: it takes part only if somebody has installed it, and is left out with a note otherwise.

Activations: sparse combinations of 2 n random directions, some of them far more frequent than others, with noise; mean
0 and variance 1. All learn with float32 Adam at one constant rate; AuxK is on everywhere, and a latent is dead after
--dead-after tokens (by default, as published, more than a run has: then nothing is dead for anyone). Encoders begin as
a multiple of the decoder: 1 / sqrt(3) with sparsify (a linear layer as torch makes it) and ours, 1 with the others.
Explained variance is that of a batch nobody learned from, by the rule of training. Memory is how far the peak of the
process rises from where it stood with its libraries and the data loaded. The floor is the product x @ W_enc alone, as
torch does it; a step can be faster, since gossamer's TopK rules compute most of that product only as bounds, in
bfloat16.

Each comparison is made twice: with products in float32, and under autocast in bfloat16 (parameters and Adam stay in
float32, and explained variance is measured in float32); SAELens' sparse option knows no bfloat16.
"""

import argparse
import importlib.util
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dictionary_trainers import FLOOR, OURS, PEERS, SPARSE, TRAINERS, Work
from rows import Row, parser, row, say, show

BATCHES = 12


def main() -> None:
    """Print the rows."""
    options = arguments(sys.argv[1:])
    show(compared(options), options.json)


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """The options, from words of the command line."""
    made = parser(__doc__, "4,096 latents, batches of 1,024, 5 turns")
    made.add_argument("--objective", default="both", choices=["topk", "batchtopk", "both"])
    made.add_argument("--precision", default="both", choices=["float32", "bfloat16", "both"], help="of the products")
    made.add_argument("--d", type=int, default=768)
    made.add_argument("--latents", type=int, default=16384)
    made.add_argument("--k", type=int, default=32)
    made.add_argument("--batch", type=int, default=4096)
    made.add_argument("--turns", type=int, default=10)
    made.add_argument("--steps", type=int, default=3, help="steps a turn")
    made.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    made.add_argument("--dead-after", type=int, default=10_000_000)
    made.add_argument("--threads", type=int, default=1)
    made.add_argument(
        "--encoder-scale", type=float, default=3**-0.5, help="where ours begins; by default where sparsify does"
    )
    made.add_argument("--peer", choices=sorted({*PEERS["topk"]}), help="only this one beside ours")
    options = made.parse_args(given)
    if options.quick:
        options.latents, options.batch, options.turns = 4096, 1024, 5
    return options


def compared(options: argparse.Namespace) -> list[Row]:
    """Every comparison that is asked for."""
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        options.data = str(Path(folder) / "activations.npy")
        # In a process of its own: those that follow begin with the peak of the one that starts them.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.apply(write_activations, (options,))
        for objective in ("topk", "batchtopk") if options.objective == "both" else (options.objective,):
            for precision in ("float32", "bfloat16") if options.precision == "both" else (options.precision,):
                found += rows(options, objective, precision)
    return found


def rows(options: argparse.Namespace, objective: str, precision: str) -> list[Row]:
    """Ours beside each of the others at one objective, all with products of one precision."""
    taken = measured(options, objective, precision)
    ours, floor = taken.pop(OURS), taken.pop(FLOOR)
    fastest = min(taken.values(), key=lambda one: one["seconds"])
    best = max(one["explained"] for one in taken.values())
    result = []
    # The target is for the size that the script has by default; what a smaller one saves is less.
    times = 3 if options.latents >= 16384 and options.batch >= 4096 else 1
    for name, theirs in taken.items():
        what, target = f"{objective}, {precision}: {name}", f"{times}x, the fastest peer"
        speeds = options.batch / ours["seconds"], options.batch / theirs["seconds"]
        held = theirs is not fastest or speeds[0] >= times * speeds[1]
        result.append(row(what, *speeds, "tokens/s", target if theirs is fastest else "reported", held))
        lighter = ours["peak"] <= theirs["peak"]
        result.append(row(what, ours["peak"], theirs["peak"], "MiB peak rise", "no higher", lighter))
        explained = ours["explained"], theirs["explained"]
        equal = ours["explained"] >= best - 0.01
        result.append(row(what, *explained, "expl. variance", "best peer's - .01 or more", equal))
    what = f"{objective}, {precision}: {FLOOR}"
    result.append(row(what, ours["seconds"], floor["seconds"], "s a step", "reported", True))
    return result


def measured(options: argparse.Namespace, objective: str, precision: str) -> dict[str, dict[str, float]]:
    """Seconds a step, MiB and explained variance by name, from processes that take turns."""
    steps = options.turns * options.steps
    sizes = (options.d, options.latents, options.k, options.batch)
    work = Work(objective, *sizes, steps, options.rate, options.dead_after, precision, options.encoder_scale)
    context = multiprocessing.get_context("spawn")
    workers: dict[str, tuple[Any, Connection]] = {}
    peers = [name for name in PEERS[objective] if _installed(name) and (precision == "float32" or name != SPARSE)]
    peers = [name for name in peers if options.peer in (None, name)]
    for name in (OURS, *peers, FLOOR):
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, name, work, options.data, options.threads), daemon=True)
        process.start()
        # Ours to close: otherwise the death of the process would not be noticed.
        there.close()
        workers[name] = (process, here)
    seconds: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(options.turns):
        for name, (_, pipe) in workers.items():
            seconds[name].append(_asked(name, pipe, options.steps))
    taken = {}
    for name, (process, pipe) in workers.items():
        peak, explained = _asked(name, pipe, None)
        # The first turn warms up.
        taken[name] = {"seconds": statistics.median(seconds[name][1:]), "peak": peak, "explained": explained}
        process.join()
    return taken


def _installed(name: str) -> bool:
    module = "sae_lens" if name.startswith("SAELens") else name
    found = importlib.util.find_spec(module) is not None
    if not found:
        say(f"{name}: left out, not installed", as_json=True)
    return found


def _asked(name: str, pipe: Connection, question: int | None) -> Any:
    pipe.send(question)
    try:
        return pipe.recv()
    except EOFError:
        sys.exit(f"{name}: its process has died, see above")


def serve(pipe: Connection, name: str, work: Work, data: str, threads: int) -> None:
    """One trainer in its process: steps when asked for a number of them, at the end peak memory and quality."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    batches = torch.from_numpy(np.load(data)).to(device).split(work.batch)
    small = Work(work.objective, 8, 16, 2, 8, 1, work.rate, work.dead_after)
    # Imports everything and wakes up the libraries, so that what follows is the memory of training.
    TRAINERS[name](small, torch.randn(8, 8, device=device)).step(torch.randn(8, 8, device=device))
    before = _peak()
    trainer = TRAINERS[name](work, torch.cat(batches[:2]))
    done, reduced = 0, work.precision == "bfloat16"
    while (steps := pipe.recv()) is not None:
        began = time.perf_counter()
        for _ in range(steps):
            with torch.autocast(device, torch.bfloat16, enabled=reduced):
                trainer.step(batches[done % (len(batches) - 1)])
            done += 1
        if device == "cuda":
            torch.cuda.synchronize()
        pipe.send((time.perf_counter() - began) / steps)
    rise = _peak() - before
    pipe.send((rise, trainer.explained_variance(batches[-1])))


def _peak() -> float:
    """MiB: the most that was ever allocated on the GPU, or that this process ever held."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_activations(options: argparse.Namespace) -> None:
    """Made-up activations in a file: batches to learn from, and one more to be judged by."""
    generator = torch.Generator().manual_seed(0)
    count, tokens = 2 * options.latents, (BATCHES + 1) * options.batch
    directions = torch.randn(count, options.d, generator=generator)
    directions /= directions.norm(dim=1, keepdim=True)
    # The share of uses that falls to the first f of all directions is f^(1/3): a few are in every token, most are rare.
    chosen = (count * torch.rand(tokens, options.k, generator=generator) ** 3).long().clamp(max=count - 1)
    weights = 0.5 + 1.5 * torch.rand(tokens, options.k, generator=generator)
    x = torch.nn.functional.embedding_bag(chosen, directions, per_sample_weights=weights, mode="sum")
    x += 0.1 * x.std() * torch.randn(x.shape, generator=generator)
    x -= x.mean(dim=0)
    np.save(options.data, (x / x.std()).numpy())


if __name__ == "__main__":
    main()
