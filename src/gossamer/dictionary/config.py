"""What a dictionary is, apart from its numbers: shapes, conventions, claims."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.site import GivenSite, Site

ARCHITECTURES = ("relu", "jumprelu", "topk", "batchtopk", "gated")
NORMALISATIONS = ("none", "centre", "layer_norm", "constant_norm_rescale")

_ENCODER_VECTORS: dict[str, tuple[str, ...]] = {
    "relu": ("b_enc",),
    "jumprelu": ("b_enc", "threshold"),
    "topk": ("b_enc",),
    "batchtopk": ("b_enc",),
    "gated": ("b_gate", "b_mag", "r_mag"),
}


@dataclass(frozen=True)
class DictionaryConfig:
    """Everything that must be known to evaluate a dictionary, with every convention spelled out.

    Attributes:
        architecture: one of ARCHITECTURES: its activation function (see :mod:`gossamer.dictionary.activation`).
        d_in: width of the tensor it reads and of the one it puts out.
        n_latents: number of latents.
        site: where in the model it reads, or its name; None only if its file does not say.
        model_name: the model it was trained on; None only if its file does not say.
        k: latents per token: exact for topk, the training average for batchtopk, else None.
        normalisation: one of NORMALISATIONS: what happens to each token's vector before encoding, undone after decoding
            (see :mod:`gossamer.dictionary.normalisation`).
        subtract_b_dec: whether the decoder bias is subtracted from the input before encoding.
        flatten_heads: the file's own library expects (heads, d_head) and flattens it; here `z` is flat already,
            so this only matters to writers.
        site_out: where the output of a transcoder belongs; None: the dictionary reconstructs what it reads.
        skip: whether a transcoder adds a linear map of its input, W_skip, to what its latents write.

    Raises:
        UsageError: a field is impossible (unknown architecture or normalisation, k missing or too large, a transcoder
            whose output would take over something of its input, a skip connection of what is no transcoder).
    """

    architecture: str
    d_in: int
    n_latents: int
    site: GivenSite | None = None
    model_name: str | None = None
    k: float | int | None = None
    normalisation: str = "none"
    subtract_b_dec: bool = False
    flatten_heads: bool = False
    site_out: GivenSite | None = None
    skip: bool = False

    __repr__ = short_repr

    def __post_init__(self) -> None:
        for end in ("site", "site_out"):
            if isinstance(name := getattr(self, end), str):
                object.__setattr__(self, end, Site.of(name))
        _require_one_of("architecture", self.architecture, ARCHITECTURES)
        _require_one_of("normalisation", self.normalisation, NORMALISATIONS)
        if self.d_in < 1 or self.n_latents < 1:
            raise UsageError(f"expected positive widths, found d_in={self.d_in}, n_latents={self.n_latents}")
        if self.architecture == "topk" and not (isinstance(self.k, int) and 1 <= self.k <= self.n_latents):
            raise UsageError(f"topk needs a whole k from 1 to n_latents={self.n_latents}, found k={self.k}")
        if self.site_out is not None and (self.site_out == self.site or self.subtract_b_dec):
            raise UsageError(f"a transcoder writes elsewhere than it reads ({self.site}) and subtracts no output bias")
        if self.site_out is not None and self.normalisation != "none":
            raise UsageError(f"a transcoder cannot undo {self.normalisation} of its input on another site")
        # It could learn to copy what it reads, and nothing that splices latents would count it.
        if self.skip and self.site_out is None:
            raise UsageError(
                f"a skip connection belongs to a transcoder, found one at {self.site} that writes nowhere else; "
                "give site_out, or leave skip out"
            )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter of this architecture."""
        n, d = self.n_latents, self.d_in
        vectors = dict.fromkeys(_ENCODER_VECTORS[self.architecture], (n,))
        scalar: dict[str, tuple[int, ...]] = {"threshold": ()} if self.architecture == "batchtopk" else {}
        skip: dict[str, tuple[int, ...]] = {"W_skip": (d, d)} if self.skip else {}
        return {"W_enc": (d, n), "W_dec": (n, d), "b_dec": (d,), **vectors, **scalar, **skip}


def _require_one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"unknown {what} {value!r}; known: {', '.join(known)}")


@dataclass(frozen=True)
class ReportedMetrics:
    """What a dictionary's file says of its quality; None where it says nothing.

    Attributes:
        l0: mean number of active latents per token.
        explained_variance: 1 - sum of squared errors / sum of squared deviations from the mean.
    """

    l0: float | None = None
    explained_variance: float | None = None


@dataclass(frozen=True)
class Contents:
    """A dictionary as files hold it: the common currency of readers and writers.

    Attributes:
        config: the conventions, resolved.
        tensors: one tensor per name of `config.shapes`.
        provenance: where it came from: source, format, sha256, revision, training, derived_from.
        reported: what its makers measured.
    """

    config: DictionaryConfig
    tensors: dict[str, Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)
    reported: ReportedMetrics = field(default_factory=ReportedMetrics)

    __repr__ = short_repr
