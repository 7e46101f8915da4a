"""Pursuit beside the same as one would write it plainly: time, residuals and memory.

    python benchmarks/pursuit.py [--tokens 256] [--d 768] [--latents 16384] [--k 32] [--quick] [--json]

The plain implementation has one product with the whole dictionary a step, to find the largest, and works on the rows it
has picked otherwise. Ours is measured

- with the products of all pairs of rows made in advance, as they are by default where they take at most 1 GiB, or a
  quarter of that where the CPU multiplies in bfloat16;
- the same with making them counted in, which is done once for a dictionary: per token of --corpus tokens;
- without them: then one product with the whole dictionary a step is left, of which a CPU that multiplies in bfloat16
  computes most only as bounds. Where it does not, there is nothing to gain, and no target.

Memory is how far the peak of a fresh process rises. Data: random unit rows, k of them active with weights .5 to 2, and
noise. Residuals must agree, or the rows fail.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from rows import Row, parser, row, show
from torch import Tensor

from gossamer.dictionary.pursuit import pursue
from gossamer.dictionary.slopes import GRAM_BYTES, DecoderRows
from gossamer.sparse.screen import worth_bounds

BYTES = {"with all pairs": GRAM_BYTES, "without pairs": 0}
PLAIN = "plain"


def main() -> None:
    """Print the rows."""
    made = parser(__doc__, "64 tokens of 1,024, 4,096 latents, one round")
    made.add_argument("--tokens", type=int, default=256)
    made.add_argument("--corpus", type=int, default=4096, help="tokens over which the pairs are counted in")
    made.add_argument("--d", type=int, default=768)
    made.add_argument("--latents", type=int, default=16384)
    made.add_argument("--k", type=int, default=32)
    made.add_argument("--rounds", type=int, default=3)
    options = made.parse_args()
    if options.quick:
        options.tokens, options.corpus, options.latents, options.rounds = 64, 1024, 4096, 1
    show(list(rows(options)), options.json)


def rows(options: argparse.Namespace) -> list[Row]:
    """Ours beside the plain one."""
    # First: a process begins with the peak of the one that starts it.
    peaks = {what: rise(what, options) for what in (PLAIN, *BYTES)}
    decoder, x = data(options, options.tokens)
    making, source = timed(lambda: DecoderRows.of(decoder, GRAM_BYTES), 1)
    if source.gram is None:
        raise SystemExit(f"the pairs of {options.latents} rows take more than {GRAM_BYTES} bytes: fewer --latents")
    plain_seconds, plain = timed(lambda: plain_pursuit(x, decoder, options.k), options.rounds)
    theirs = residual(x, decoder, plain)
    name = f"gradient pursuit, {options.latents} latents, k {options.k}"
    result = []
    # Without pairs and bounds the one product with the whole dictionary is nearly all there is, for both.
    for what, given, leads in (
        ("with all pairs", source, True),
        ("without pairs", DecoderRows.of(decoder, 0), worth_bounds(decoder.T)),
    ):
        seconds, codes = timed(lambda given=given: pursue(x, given, options.k), options.rounds)
        ours = residual(x, decoder, codes.dense())
        equal = abs(ours - theirs) <= 1e-3 * theirs
        held = equal and (seconds <= plain_seconds or not leads)
        target = "faster" if leads else "reported (no bfloat16)"
        result.append(row(f"{name}, {what}", seconds, plain_seconds, "s", target, held))
        result.append(row(f"{name}, {what}", ours, theirs, "residual", "equal", equal))
    corpus = data(options, options.corpus)[1]
    whole = 1e3 * (making + timed(lambda: pursue(corpus, source, options.k), 1)[0]) / options.corpus
    each = 1e3 * plain_seconds / options.tokens
    what = f"{name}, making the pairs ({making:.1f} s) counted in"
    result.append(row(what, whole, each, "ms a token", "reported", True))
    result += [row(f"{name}, {what}", peaks[what], peaks[PLAIN], "MiB", "-", True) for what in BYTES]
    return result


def rise(what: str, options: argparse.Namespace) -> float:
    """MiB by which the peak memory of a fresh process rises while it does the work."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_rise, (what, options))


def _rise(what: str, options: argparse.Namespace) -> float:
    decoder, x = data(options, options.tokens)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if what == PLAIN:
        plain_pursuit(x, decoder, options.k)
    else:
        pursue(x, DecoderRows.of(decoder, BYTES[what]), options.k)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def data(options: argparse.Namespace, tokens: int) -> tuple[Tensor, Tensor]:
    """Decoder rows (latents, d) of norm 1, and vectors (tokens, d) made of k of them with a tenth of noise."""
    device, generator = "cuda" if torch.cuda.is_available() else "cpu", torch.Generator().manual_seed(0)
    decoder = torch.randn(options.latents, options.d, generator=generator)
    decoder /= decoder.norm(dim=1, keepdim=True)
    chosen = torch.randint(options.latents, (tokens, options.k), generator=generator)
    weights = 0.5 + 1.5 * torch.rand(tokens, options.k, generator=generator)
    made = torch.einsum("tk,tkd->td", weights, decoder[chosen])
    noise = torch.randn(made.shape, generator=generator)
    return decoder.to(device), (made + 0.1 * made.norm(dim=1, keepdim=True) * noise / options.d**0.5).to(device)


def plain_pursuit(x: Tensor, decoder: Tensor, k: int) -> Tensor:
    """Gradient pursuit for all tokens at once: one dense product a step, and the rows picked so far."""
    residual = x
    rows = x.new_zeros(len(x), k, x.shape[1])
    latents = torch.zeros(len(x), k, dtype=torch.long, device=x.device)
    values = x.new_zeros(len(x), k)
    for slot in range(k):
        products = residual @ decoder.T
        best, latent = products.max(dim=1)
        # One that is active already stays in its slot; one that went to 0 gets a new one.
        known = (latents[:, :slot] == latent[:, None]) & (values[:, :slot] > 0)
        latents[:, slot], rows[:, slot] = latent, decoder[latent]
        support = values[:, : slot + 1] > 0
        support[:, slot] = (best > 0) & ~known.any(dim=1)
        gradient = products.gather(1, latents[:, : slot + 1]) * support
        change = torch.bmm(gradient[:, None], rows[:, : slot + 1])[:, 0]
        length = change.square().sum(dim=1)
        step = torch.where(length > 0, gradient.square().sum(dim=1) / length, 0.0)
        values[:, : slot + 1] = (values[:, : slot + 1] + step[:, None] * gradient).clamp(min=0)
        residual = x - torch.bmm(values[:, None, : slot + 1], rows[:, : slot + 1])[:, 0]
    return x.new_zeros(len(x), len(decoder)).scatter_add(1, latents, values)


def residual(x: Tensor, decoder: Tensor, codes: Tensor) -> float:
    """Share of the energy of x that codes leave unexplained."""
    return float((x - codes @ decoder).square().sum() / x.square().sum())


def timed(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """The shortest of some rounds, and the result."""
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        result = work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best, result


if __name__ == "__main__":
    main()
