r"""An encoder's pre-activations, a few tokens at a time, and from above where that is cheaper.

Rules that keep the largest pre-activations need most of them only to find that they are small. CPUs that multiply in
bfloat16 do that more than twice as fast as in float32, so there the matrix of tokens and latents is computed in
bfloat16, as upper bounds; whatever can be among the largest is computed again in float32. Nothing is lost: with x', w'
the rounded x and w, by the inequality of Cauchy and Schwarz

    x . w + b  <=  x' . w' + |x - x'| |w| + |x'| |w - w'| + b

which is itself one product, of x' and w' with three more columns.
"""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.sparse.bits import as_integers, below
from gossamer.sparse.latents import SparseLatents

# Entries of a chunk.
CHUNK = 2**23
# d * n from which bounds pay: below it the products are too small a part of a step.
_PAYS = 2**21
# Blocks for each of the k entries that are looked for: with fewer, several would share one.
_BLOCKS = 16
# The largest relative error of rounding to bfloat16.
_ROUNDING = 2.0**-8
# One candidate costs as much by itself as this many entries of a dense product.
_DENSE = 12


@dataclass(frozen=True)
class Chunk:
    """Some tokens that follow one another.

    Attributes:
        start: the first of them.
        upper: at least their pre-activations, up to a relative `rounding`. A buffer: the next chunk overwrites it.
        slack: how far `upper` usually is above them.
        rounding: see :class:`Screen`.
    """

    start: int
    upper: Float[Tensor, "tokens n"]
    slack: Float[Tensor, "tokens"]
    rounding: float

    def kth_or_less(self, k: int) -> Float[Tensor, "tokens"]:
        """The k-th largest of the maxima of blocks, or 0: seldom much less than that of all, and found faster."""
        blocks = _BLOCKS * k
        bits = as_integers(self.upper)
        if len(bits[0]) >= 2 * blocks:
            bits = bits[:, : len(bits[0]) // blocks * blocks].reshape(len(bits), -1, blocks).amax(dim=1)
        place = len(bits[0]) - k
        # numpy partitions short integers more than ten times as fast as torch finds the largest of floats.
        kth = torch.from_numpy(np.partition(bits.numpy(), place, axis=1)[:, place].copy())
        return kth.view(self.upper.dtype).to(self.slack.dtype).clamp(min=0)

    def at_least(self, level: Float[Tensor, "..."]) -> Int[Tensor, "entries"]:
        """Which may be positive and as large as `level`, one for all or one a token: ascending flat indices."""
        # What is 0 at most is no candidate: only what is positive counts.
        bits = below(level * (1 - self.rounding), self.upper.dtype).clamp(min=1)
        # numpy finds them several times faster than torch does on a CPU.
        return torch.from_numpy(np.flatnonzero(as_integers(self.upper).numpy() >= bits.reshape(-1, 1).numpy()))

    def at(self, flat: Int[Tensor, "entries"]) -> Float[Tensor, "entries"]:
        """Bounds of these entries."""
        return self.upper.reshape(-1)[flat].to(self.slack.dtype)


class Encoder:
    """W_enc and b_enc, and what bounds need of them: made once, for any number of tokens. No gradient is kept.

    Attributes:
        bounded: whether bounds pay, and the attributes that follow are there.
        rows: the latents' factor of the bounds, in bfloat16, (n, d + 3).
        mean_norm, mean_lost: of the columns of W_enc, and of what they lose in bfloat16.

    Raises:
        NotFiniteError: the weights are not finite: they would be no candidates, and go unnoticed.
    """

    def __init__(self, W_enc: Float[Tensor, "d n"], b_enc: Float[Tensor, "n"]) -> None:
        self.W_enc, self.b_enc = require_finite(W_enc.detach(), "W_enc"), require_finite(b_enc.detach(), "b_enc")
        self.bounded = worth_bounds(self.W_enc)
        if self.bounded:
            self._round()

    def _round(self) -> None:
        """The factor of the upper bounds that belongs to the latents, in bfloat16."""
        by_latent = self.W_enc.t()
        rows, lost = _rounded(by_latent, 3)
        norm = torch.linalg.vector_norm(by_latent, dim=1)
        # The sums of float32 products are rounded too, in an order nobody knows.
        lost += 2 * len(self.W_enc) * torch.finfo(torch.float32).eps * norm
        for column, values in zip((-3, -2, -1), (norm, lost, self.b_enc), strict=True):
            rows[:, column] = _raised(values)
        self.rows, self.mean_norm, self.mean_lost = rows, norm.mean(), lost.mean()


class Screen:
    """The pre-activations x @ W_enc + b_enc. Memory: a chunk of them and a copy of W_enc in bfloat16.

    Attributes:
        x, encoder: what they are of.
        tokens, n_latents: how many there are.
        bounded: whether upper bounds are looked through, and not the pre-activations themselves.
        rounding: relative to itself, how far an upper bound can be below the value; 0 where it is the value.

    Raises:
        UsageError: no token.
    """

    def __init__(self, x: Float[Tensor, "tokens d"], encoder: Encoder) -> None:
        if not len(x):
            raise UsageError("looking for the largest pre-activations: expected at least one token, found none")
        self.x, self.encoder = x.detach(), encoder
        self.tokens, self.n_latents = len(x), encoder.W_enc.shape[1]
        if encoder.bounded:
            self._round()
        # Lengths may overflow where no pre-activation does.
        self.bounded = encoder.bounded and bool(self._slack.isfinite().all())
        self.rounding = _ROUNDING if self.bounded else 0.0

    def _round(self) -> None:
        """The factor of the upper bounds that belongs to the tokens, in bfloat16."""
        read, lost = _rounded(self.x, 3)
        norm = torch.linalg.vector_norm(self.x, dim=1) + lost
        for column, values in zip((-3, -2), (lost, norm), strict=True):
            read[:, column] = _raised(values)
        read[:, -1] = 1
        # What rounding really does to a sum is a small part of its bound: values lie about one bound below `upper`.
        self._read, self._slack = read, 1.25 * (lost * self.encoder.mean_norm + norm * self.encoder.mean_lost)

    def chunks(self) -> Iterator[Chunk]:
        """All tokens, in order."""
        size = _tokens(self.n_latents)
        kind = torch.bfloat16 if self.bounded else self.x.dtype
        buffer = torch.empty(min(size, self.tokens), self.n_latents, dtype=kind)
        for start in range(0, self.tokens, size):
            part = slice(start, min(start + size, self.tokens))
            upper = buffer[: part.stop - start]
            if self.bounded:
                with _whole():
                    torch.mm(self._read[part], self.encoder.rows.t(), out=upper)
                slack = self._slack[part]
            else:
                self._exactly(part, upper)
                slack = torch.zeros_like(self.x[part, 0])
            yield Chunk(start, upper, slack, self.rounding)

    def exact(self, found: SparseLatents, start: int = 0) -> SparseLatents:
        """The entries with their pre-activations in place of bounds; their rows are the tokens from `start` on."""
        if not self.bounded:
            return found
        rows = len(found.starts) - 1
        if _DENSE * len(found.latents) > rows * found.n_latents:
            return found.with_activations(self._densely(found, start))
        with _whole():
            products = found.products(self.x[start : start + rows], self.encoder.W_enc.t())
        return found.with_activations(products + self.encoder.b_enc[found.latents])

    def _densely(self, found: SparseLatents, start: int) -> Tensor:
        values, rows = [], len(found.starts) - 1
        size = _tokens(found.n_latents)
        for first in range(0, rows, size):
            last = min(first + size, rows)
            entries = slice(int(found.starts[first]), int(found.starts[last]))
            pre = self._exactly(slice(start + first, start + last), None)
            values.append(pre[found.tokens[entries] - first, found.latents[entries]])
        return torch.cat(values)

    def _exactly(self, part: slice, out: Tensor | None) -> Tensor:
        with _whole():
            return torch.addmm(self.encoder.b_enc, self.x[part], self.encoder.W_enc, out=out)


def _tokens(n_latents: int) -> int:
    return max(1, CHUNK // n_latents)


def _rounded(rows: Tensor, more: int) -> tuple[Tensor, Tensor]:
    """Rows in bfloat16 with room for `more` columns, and the norm of what each lost."""
    width = rows.shape[1]
    result = torch.empty(len(rows), width + more, dtype=torch.bfloat16)
    lost = rows.new_empty(len(rows))
    for start in range(0, len(rows), 1024):
        here = slice(start, start + 1024)
        result[here, :width] = rows[here]
        lost[here] = (rows[here] - result[here, :width]).norm(dim=1)
    return result, lost


def _raised(values: Tensor) -> Tensor:
    """In bfloat16, and not below what they are."""
    return values + 1.01 * _ROUNDING * values.abs()


def worth_bounds(W_enc: Float[Tensor, "d n"]) -> bool:
    """Whether bounds in bfloat16 are faster than the product: by the size of the encoder and by the machine."""
    fits = W_enc.device.type == "cpu" and W_enc.dtype == torch.float32 and W_enc.numel() >= _PAYS
    return fits and multiplies_in_bfloat16()


@functools.cache
def multiplies_in_bfloat16() -> bool:
    """Whether this CPU has instructions for products in bfloat16."""
    # Older versions of torch do not tell: there the product in float32 is looked through.
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    has_products = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return has_products and any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def _whole() -> contextlib.AbstractContextManager[object]:
    """Autocast would round what is to be exact."""
    return torch.autocast("cpu", enabled=False)
