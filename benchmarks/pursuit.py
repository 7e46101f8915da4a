"""Pursuit with only the rows in use, beside the same pursuit with dense products: time and residuals.

    python benchmarks/pursuit.py [--tokens 256] [--d 768] [--latents 16384] [--k 32] [--quick] [--json]

The dense implementation is the equations as they stand, with a (tokens, latents) mask: three products with the whole
dictionary a step. Ours is measured with and without the products of all pairs of rows in advance; making those is
timed apart, because it is done once for a dictionary. Data: random unit rows, k of them active with weights .5 to 2,
and noise. Residuals must agree, or the row fails.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from settings import Row, row, show
from torch import Tensor

from gossamer.dictionary.pursuit import Rows, pursue


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--d", type=int, default=768)
    parser.add_argument("--latents", type=int, default=16384)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="64 tokens, 2,048 latents, one round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.tokens, options.latents, options.rounds = 64, 2048, 1
    show(list(rows(options)), options.json)


def rows(options: argparse.Namespace) -> list[Row]:
    """Ours beside the dense one, with and without the pairs."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    decoder, x = data(options, generator, device)
    seconds, source = timed(lambda: Rows.of(decoder), 1)
    bare = Rows.of(decoder, gram_bytes=0)
    pairs = f"{seconds:.1f} s once" if source.gram is not None else "too large"
    print(f"products of all pairs of {options.latents} rows: {pairs}")
    dense_seconds, dense = timed(lambda: dense_pursuit(x, decoder, options.k), options.rounds)
    theirs = residual(x, decoder, dense)
    result = []
    for what, given in (("with all pairs", source), ("without", bare)):
        ours_seconds, codes = timed(lambda given=given: pursue(x, given, options.k), options.rounds)
        ours = residual(x, decoder, codes.dense())
        equal = abs(ours - theirs) <= 1e-3 * theirs
        name = f"gradient pursuit, {options.latents} latents, k {options.k}, {what}"
        faster = dense_seconds >= 5 * ours_seconds
        result.append(row(name, ours_seconds, dense_seconds, "s", "5x faster than dense", faster and equal))
        result.append(row(name, ours, theirs, "residual", "equal", equal))
    return result


def data(options: argparse.Namespace, generator: torch.Generator, device: str) -> tuple[Tensor, Tensor]:
    """Decoder rows (latents, d) of norm 1, and vectors (tokens, d) made of k of them with a tenth of noise."""
    decoder = torch.randn(options.latents, options.d, generator=generator)
    decoder /= decoder.norm(dim=1, keepdim=True)
    chosen = torch.randint(options.latents, (options.tokens, options.k), generator=generator)
    weights = 0.5 + 1.5 * torch.rand(options.tokens, options.k, generator=generator)
    made = torch.einsum("tk,tkd->td", weights, decoder[chosen])
    noise = torch.randn(made.shape, generator=generator)
    return decoder.to(device), (made + 0.1 * made.norm(dim=1, keepdim=True) * noise / options.d**0.5).to(device)


def dense_pursuit(x: Tensor, decoder: Tensor, k: int) -> Tensor:
    """Gradient pursuit as its equations stand, for all tokens at once."""
    a = x.new_zeros(len(x), len(decoder))
    for _ in range(k):
        r = x - a @ decoder
        q = r @ decoder.T
        best, latent = q.max(dim=1)
        support = (a != 0).scatter(1, latent[:, None], (best > 0)[:, None])
        g = q * support
        c = g @ decoder
        length = c.square().sum(dim=1)
        step = torch.where(length > 0, (c * r).sum(dim=1) / length, 0.0)
        a = (a + step[:, None] * g).clamp(min=0)
    return a


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
