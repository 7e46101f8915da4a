"""A dictionary on one pass: which latents are active where, and the linear functions that its encoder and decoder are.

What a normalising dictionary divides by is held fixed, as the norms of the model are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.normalisation import linear_part
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.sparse.latents import SparseLatents

# A dictionary with more active latents than this many times what its file claims, or than this share of all where it
# claims nothing, reads another tensor than it was trained on.
_TIMES_CLAIMED, _SHARE = 4.0, 0.25
_LEAST_TOKENS = 4


@dataclass(frozen=True, eq=False)
class Codes:
    """What one dictionary makes of some tokens: x = sum of activation * written + bias + error, exactly.

    Attributes:
        dictionary: the dictionary.
        latents: active latents at the tokens where it counts; none at the others.
        counted: the tokens where it counts.
        scale, centred: what its normalisation multiplies by, and whether it subtracts the mean first.
        output_scale: what its decoder's output is multiplied by.
        bias: what it writes whatever is active (b_dec, the mean that it adds back), zero where it does not count.
        skip: what a linear path past the latents writes; None without one.
        error: what is missing to the value; where the dictionary does not count, all of it.
    """

    dictionary: Dictionary
    latents: SparseLatents
    counted: Bool[Tensor, "batch pos"]
    scale: Float[Tensor, "batch pos one"] | None
    centred: bool
    output_scale: Float[Tensor, "batch pos one"] | None
    bias: Float[Tensor, "batch pos d"]
    skip: Float[Tensor, "batch pos d"] | None
    error: Float[Tensor, "batch pos d"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.dictionary)
        yield repr(self.latents)

    @property
    def reads(self) -> Site:
        """The site it reads."""
        assert self.dictionary.site is not None
        return self.dictionary.site

    @property
    def writes(self) -> Site:
        """The site whose value it explains."""
        return self.dictionary.site_out or self.reads

    @classmethod
    def of(
        cls,
        dictionary: Dictionary,
        x: Float[Tensor, "batch pos d"],
        target: Float[Tensor, "batch pos d_out"],
        counted: Bool[Tensor, "batch pos"],
    ) -> "Codes":
        """Encode what stands at a dictionary's site.

        Args:
            dictionary: an autoencoder, or a transcoder.
            x: what it reads.
            target: what it explains.
            counted: the tokens where it counts.

        Raises:
            UsageError: it does not fit the site: its width, L0 or reconstruction says so.
        """
        normal, statistics = dictionary.normalise(x)
        latents = dictionary.encode(x)
        latents = latents.only(
            counted.reshape(-1).to(latents.tokens.device)[latents.tokens] & (latents.activations > 0)
        )
        here = counted.unsqueeze(-1).to(target)
        # The same in the type of the model's values: what a dictionary of lower precision rounds is error.
        written = dictionary.denormalise(dictionary.decode_normalised(latents), statistics).to(target)
        bias = dictionary.denormalise(dictionary.b_dec.expand_as(written), statistics).to(target)
        skip = None if dictionary.W_skip is None else (x.to(dictionary.W_skip) @ dictionary.W_skip).to(target) * here
        whole = written if skip is None else written + skip
        found = cls(
            dictionary,
            latents,
            counted,
            *linear_part(x, normal, dictionary.config.normalisation),
            None if statistics is None else statistics.scale.to(target),
            bias * here,
            skip,
            target - whole * here,
        )
        _require_plausible(found, target)
        return found

    def active(self, row: int, position: int) -> dict[int, float]:
        """Latents that are active at one token, strongest first, with their activations."""
        token = row * self.latents.shape[1] + position
        entries = slice(int(self.latents.starts[token]), int(self.latents.starts[token + 1]))
        found = dict(
            zip(self.latents.latents[entries].tolist(), self.latents.activations[entries].tolist(), strict=True)
        )
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def encoder(self, latents: Int[Tensor, "n"], like: Tensor) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n"]]:
        """Vectors and constants of pre-activations as functions of the normalised input: pre = vector . x + constant.

        Of a gated dictionary the pre-activation is that of its magnitude path. An active latent's activation is its
        pre-activation.
        """
        one = self.dictionary
        vectors = one.W_enc.T[latents].to(like)
        shift = vectors @ one.b_dec.to(like) if one.config.subtract_b_dec else vectors.new_zeros(len(vectors))
        if one.architecture == "gated":
            assert one.r_mag is not None
            assert one.b_mag is not None
            gain = one.r_mag[latents].to(like).exp()
            return vectors * gain.unsqueeze(1), one.b_mag[latents].to(like) - shift * gain
        assert one.b_enc is not None
        return vectors, one.b_enc[latents].to(like) - shift

    def at_input(
        self, cotangent: Float[Tensor, "... d"], *, at: tuple[Tensor, Tensor] | None = None
    ) -> Float[Tensor, "... d"]:
        """A function of the normalised input as one of the value that is read: of every token, or of those `at`."""
        scaled = cotangent if self.scale is None else cotangent * (self.scale if at is None else self.scale[at])
        return scaled - scaled.mean(dim=-1, keepdim=True) if self.centred else scaled

    def written(self, cotangent: Float[Tensor, "batch pos head d"]) -> Float[Tensor, "entries head"]:
        """How much each active latent's unit of activation moves a function of the value that is written."""
        scaled = cotangent if self.output_scale is None else cotangent * self.output_scale.unsqueeze(-1)
        heads = scaled.flatten(0, 1).unbind(1)
        rows = self.dictionary.W_dec.to(scaled)
        return torch.stack([self.latents.products(one.contiguous(), rows) for one in heads], dim=1)


def _require_plausible(codes: Codes, target: Tensor) -> None:
    """Catch a dictionary on a tensor that it was not trained on: another site of the same width, say."""
    one, n = codes.dictionary, int(codes.counted.sum())
    if n < _LEAST_TOKENS:
        return
    l0, claimed = len(codes.latents.latents) / n, one.reported.l0 or one.k
    if l0 > (_TIMES_CLAIMED * claimed if claimed else _SHARE * one.n_latents):
        of = f"{claimed:.0f} as its file says" if claimed else f"less than {_SHARE:.0%} of its {one.n_latents} latents"
        raise UsageError(
            f"dictionary at {codes.reads}: an L0 near {of} expected, found {l0:.0f}; it was trained on another tensor "
            "than this site's (a residual dictionary on z?) or on another model"
        )
    error, spread = (value[codes.counted].double() for value in (codes.error, target))
    if error.square().sum() > 4 * (spread - spread.mean(dim=0)).square().sum():
        raise UsageError(
            f"dictionary at {codes.reads}: a reconstruction nearer to {codes.writes} than its mean expected, found one "
            "twice as far away; it was trained on another tensor than this site's, or on another model"
        )
