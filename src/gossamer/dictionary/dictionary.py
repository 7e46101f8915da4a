r"""A sparse dictionary of one site's activations (a sparse autoencoder).

The whole contract is two equations. For the vector x of one token, after `normalise`:

    a     = activation((x - s * b_dec) @ W_enc + b_enc)      s = 1 if `subtract_b_dec`, else 0
    x_hat = a @ W_dec + b_dec                                 then `denormalise`

`activation` is the architecture: relu; jumprelu (zero unless pre > threshold, a threshold per latent); topk (the k
largest, then ReLU); batchtopk (at inference jumprelu with one threshold); gated (a gate and a magnitude path share
W_enc). A transcoder is the same with x_hat at another site (`site_out`), and with `skip` it has a linear path past the
latents too (Paulo et al. 2025, arXiv 2501.18823):

    y_hat = a @ W_dec + b_dec + x @ W_skip                    x as the model has it

Conventions of other libraries (scale factors, decoder-norm gating, head flattening) are folded into the weights or made
fields when a file is read, so nothing else exists.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gossamer.dictionary import activation, normalisation
from gossamer.dictionary.config import Contents, DictionaryConfig, ReportedMetrics
from gossamer.dictionary.formats import detect
from gossamer.dictionary.normalisation import Statistics
from gossamer.display import brief, plural, short_repr
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.site import Site, SiteLike
from gossamer.sparse.latents import SparseLatents

_BLOCK_VALUES = 2**26


class Dictionary(nn.Module):
    """Encoder and decoder of one site. Parameters: W_enc (d, n), W_dec (n, d), b_dec (d); per architecture b_enc (n),
    threshold (n, or a scalar for batchtopk), b_gate, b_mag, r_mag (n); W_skip (d, d), input by output, of a transcoder
    with a skip connection; absent ones are None.

    A new dictionary's parameters are zeros (`device="meta"` allocates nothing); :meth:`load` gives frozen ones.
    Memory: (2 * d * n + a few n, with a skip d * d more) parameters; `nbytes` is exact, on the meta device too. W_enc
    lies in memory as (n, d), so that picking latents reads whole rows.

    Attributes:
        config: conventions and shapes.
        provenance: source, format, sha256, revision, training facts, derived_from.
        reported: L0 and explained variance that its makers measured.
    """

    W_enc: Tensor
    W_dec: Tensor
    b_dec: Tensor
    b_enc: Tensor | None
    threshold: Tensor | None
    b_gate: Tensor | None
    b_mag: Tensor | None
    r_mag: Tensor | None
    W_skip: Tensor | None

    def __init__(
        self,
        config: DictionaryConfig,
        *,
        provenance: dict[str, Any] | None = None,
        reported: ReportedMetrics | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.provenance = dict(provenance or {})
        self.reported = reported or ReportedMetrics()
        for name in ("b_enc", "threshold", "b_gate", "b_mag", "r_mag", "W_skip"):
            self.register_parameter(name, None)
        for name, shape in config.shapes.items():
            zeros = torch.zeros(shape, device=device, dtype=dtype)
            self.register_parameter(name, nn.Parameter(_by_latent(zeros) if name == "W_enc" else zeros))

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.architecture} at {self.site or 'no site'}{f' to {self.site_out}' if self.site_out else ''}"
        yield f"of {self.model_name or 'no model'}"
        yield f"{plural(self.n_latents, 'latent')}, d_in {self.d_in}"
        if self.k is not None:
            yield f"k {self.k:g}"
        yield f"{brief(self.W_dec.dtype)} on {self.W_dec.device}"

    @property
    def site(self) -> Site | None:
        """Where it reads."""
        return self.config.site

    @property
    def site_out(self) -> Site | None:
        """Where a transcoder's output belongs; None: it reconstructs what it reads."""
        return self.config.site_out

    @property
    def model_name(self) -> str | None:
        """The model it was trained on."""
        return self.config.model_name

    @property
    def architecture(self) -> str:
        """relu, jumprelu, topk, batchtopk or gated."""
        return self.config.architecture

    @property
    def d_in(self) -> int:
        """Width of its input and of its reconstruction."""
        return self.config.d_in

    @property
    def n_latents(self) -> int:
        """Number of latents."""
        return self.config.n_latents

    @property
    def k(self) -> float | int | None:
        """Latents per token (topk: exactly; batchtopk: on average in training), else None."""
        return self.config.k

    @property
    def nbytes(self) -> int:
        """Memory of the parameters in bytes."""
        return sum(parameter.nbytes for parameter in self.parameters())

    def normalise(self, x: Float[Tensor, "*tokens d"]) -> tuple[Float[Tensor, "*tokens d"], Statistics | None]:
        """`x` in the dictionary's dtype and scale, with what :meth:`denormalise` needs (None: nothing was done).

        Raises:
            UsageError: the width of `x` is not `d_in`.
        """
        if x.shape[-1] != self.d_in:
            raise UsageError(
                f"dictionary at {self.site}: expected vectors of width {self.d_in}, found {x.shape[-1]}; "
                "give the activations of its own site (z with its heads concatenated)"
            )
        return normalisation.normalise(x.to(self.W_enc.dtype), self.config.normalisation)

    def denormalise(self, out: Float[Tensor, "*tokens d"], statistics: Statistics | None) -> Float[Tensor, "*tokens d"]:
        """A decoder's output in the scale of the model's activations."""
        return normalisation.denormalise(out, statistics)

    def encode_dense(
        self, x: Float[Tensor, "*tokens d"], columns: Int[Tensor, "c"] | None = None
    ) -> Float[Tensor, "*tokens latents"]:
        """Activations of all latents, or exactly those of `columns`, differentiable in `x`.

        With `columns`, only their weights are touched: tokens * c values of memory. topk is the exception: whether a
        latent is among the k largest depends on all of them, so it computes all tokens * n pre-activations first.
        """
        if self.architecture == "topk":
            dense = self._topk(x).dense()
            return dense if columns is None else dense[..., columns]
        return self._activate(self._project(x, columns), columns)

    def encode(self, x: Float[Tensor, "*tokens d"]) -> SparseLatents:
        """Active latents of each token: k for topk (some of them 0), else as many as there are.

        Works through blocks of tokens, so that without autograd at most 2**26 pre-activations exist at once.
        """
        flat = x.reshape(-1, x.shape[-1])
        sparse: Callable[[Tensor], SparseLatents] = (
            self._topk
            if self.architecture == "topk"
            else lambda rows: SparseLatents.from_dense(self.encode_dense(rows))
        )
        blocks = torch.split(flat, max(1, _BLOCK_VALUES // self.n_latents))
        return SparseLatents.concatenate([sparse(block) for block in blocks]).reshape(*x.shape[:-1])

    def decode(
        self,
        latents: SparseLatents | Float[Tensor, "*tokens latents"],
        columns: Int[Tensor, "c"] | None = None,
        *,
        statistics: Statistics | None = None,
    ) -> Float[Tensor, "*tokens d"]:
        """Latents to a reconstruction in the scale of the model's activations.

        What a skip connection adds is no function of the latents, so it is not in here: :meth:`reconstruct` has it.

        Args:
            latents, columns: see :meth:`decode_normalised`.
            statistics: what :meth:`normalise` took off each token, which latents do not hold.

        Raises:
            UsageError: the dictionary normalises its input, and no statistics are given.
        """
        if statistics is None and self.config.normalisation != "none":
            raise UsageError(
                f"dictionary at {self.site}: decoding needs what {self.config.normalisation} took off each token, "
                "found latents alone; use reconstruct(x, latents), give the statistics of normalise(x), or take "
                "decode_normalised(latents), in the normalised scale"
            )
        return self.denormalise(self.decode_normalised(latents, columns), statistics)

    def decode_normalised(
        self, latents: SparseLatents | Float[Tensor, "*tokens latents"], columns: Int[Tensor, "c"] | None = None
    ) -> Float[Tensor, "*tokens d"]:
        """Latents to a reconstruction in the normalised scale (:meth:`denormalise` brings it back to the model's).

        Sparse latents gather only the decoder rows they name. Dense latents may be those of `columns` alone: the others
        count as 0.
        """
        if not isinstance(latents, SparseLatents):
            return latents @ (self.W_dec if columns is None else self.W_dec[columns]) + self.b_dec
        if columns is not None:
            raise UsageError("columns belong to dense latents; sparse latents carry their own indices")
        return latents.decoded(self.W_dec) + self.b_dec

    def reconstruct(
        self, x: Float[Tensor, "*tokens d"], latents: SparseLatents | Float[Tensor, "*tokens n"]
    ) -> Float[Tensor, "*tokens d"]:
        """What all `latents` of `x` and, if there is one, the skip connection write, in the model's scale.

        The latents may be another coder's than :meth:`encode`; the result has the dictionary's dtype.
        """
        _, statistics = self.normalise(x)
        out = self.denormalise(self.decode_normalised(latents), statistics)
        return out if self.W_skip is None else out + x.to(self.W_skip.dtype) @ self.W_skip

    def require_reconstruction(self, purpose: str) -> None:
        """Raise :class:`UsageError` if this is a transcoder: `purpose` needs the output at the site that is read."""
        if self.site_out is not None:
            raise UsageError(
                f"{purpose} needs a dictionary that reconstructs what it reads, found a transcoder from {self.site} to "
                f"{self.site_out}; give a sparse autoencoder"
            )

    def forward(self, x: Float[Tensor, "*tokens d"]) -> Float[Tensor, "*tokens d"]:
        """The reconstruction of `x` (a transcoder: the prediction of what stands at `site_out`), in its dtype."""
        return self.reconstruct(x, self.encode(x)).to(x.dtype)

    def _weights(self, name: str, columns: Tensor | None) -> Tensor:
        weights = self.get_parameter(name)
        return weights if columns is None or weights.ndim == 0 else weights[..., columns]

    def _project(self, x: Tensor, columns: Tensor | None) -> Tensor:
        x, _ = self.normalise(x)
        if self.config.subtract_b_dec:
            x = x - self.b_dec
        rows = self.W_enc.T if columns is None else self.W_enc.T[columns]
        return x @ rows.T

    def _activate(self, projection: Tensor, columns: Tensor | None) -> Tensor:
        if self.architecture == "gated":
            biases = [self._weights(name, columns) for name in ("b_gate", "b_mag", "r_mag")]
            return activation.gated(projection, *biases)
        pre = projection + self._weights("b_enc", columns)
        if self.architecture == "relu":
            return activation.relu(pre)
        return activation.jumprelu(pre, self._weights("threshold", columns))

    def _topk(self, x: Tensor) -> SparseLatents:
        assert isinstance(self.k, int)
        pre = self._project(x, None) + self._weights("b_enc", None)
        return SparseLatents.from_padded(*activation.topk(pre, self.k), self.n_latents)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        format: str | None = None,
        site: SiteLike | None = None,
        model_name: str | None = None,
        norm_scaling_factor: float | None = None,
        activations: Float[Tensor, "*tokens d"] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> "Dictionary":
        """Read a trained dictionary, its parameters frozen.

        Memory: the file's tensors on the CPU, a copy of W_enc, and one of all if dtype or device differ or a convention
        has to be folded.

        Args:
            source: a local folder or weights file, or `hub:owner/repo/path` of either, optionally `@revision`.
            format: a key of :data:`gossamer.dictionary.formats.detect.FORMATS` ("saelens", "gemma_scope", "sparsify",
                "dictionary_learning", "openai", "llama_scope", ...); None recognises it by its files.
            site, model_name: facts that the files do not hold; contradicting the files is an error.
            norm_scaling_factor: factor by which activations were multiplied in training, for files whose
                `normalize_activations` is "expected_average_only_in"; folded into the weights.
            activations: what the model has at the dictionary's site on some tokens of text, without BOS; for
                "llama_scope", whose oldest files do not say in which units their threshold is: it is measured.
            device: where to put it; "meta" reads shapes only.
            dtype: default is the file's.

        Raises:
            UsageError: nothing known at `source`, unknown architecture, or a fact missing.
            GossamerError: a damaged file, a tensor of unexpected shape, a NaN, or an infinity once all is folded.
        """
        request = detect.Request(
            site=None if site is None else Site.of(site),
            model_name=model_name,
            norm_scaling_factor=norm_scaling_factor,
            activations=activations,
            shapes_only=device is not None and torch.device(device).type == "meta",
        )
        dictionary = cls.from_contents(detect.read(source, format, request), device=device, dtype=dtype)
        # Readers check what is in the file; folding a scale or another dtype can overflow too.
        for name, parameter in dictionary.named_parameters():
            if not parameter.is_meta:
                require_finite(parameter, f"{source}: {name} as loaded")
        return dictionary

    @classmethod
    def from_contents(
        cls, contents: Contents, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "Dictionary":
        """A frozen dictionary from what a reader returned; parameters take W_enc's dtype unless `dtype` is given."""
        dictionary = cls(contents.config, provenance=contents.provenance, reported=contents.reported, device="meta")
        dtype = dtype or contents.tensors["W_enc"].dtype
        tensors = {**contents.tensors, "W_enc": _by_latent(contents.tensors["W_enc"])}
        tensors = {name: tensor.to(device=device, dtype=dtype) for name, tensor in tensors.items()}
        # Some formats hold the decoder transposed; gathering its rows wants them whole.
        tensors["W_dec"] = tensors["W_dec"].contiguous()
        dictionary.load_state_dict(tensors, assign=True)
        return dictionary.requires_grad_(False)

    def contents(self) -> Contents:
        """What writers take: conventions, provenance, and the parameters on the CPU."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        return Contents(self.config, tensors, self.provenance, self.reported)

    def save(self, folder: str | Path, format: str = "saelens") -> Path:
        """Write to `folder` in "saelens" (v6), "gemma_scope", "gemma_scope_2" or "sparsify" layout; returns the folder.

        Raises:
            UsageError: the format cannot express this dictionary (the Gemma Scopes hold jumprelu only, sparsify topk
                only, both unnormalised; of transcoders SAELens holds relu, jumprelu and batchtopk, sparsify topk, both
                with or without a skip connection, the Gemma Scopes none), or is only read.
        """
        return detect.write(Path(folder), format, self.contents())


def _by_latent(w_enc: Tensor) -> Tensor:
    """The same (d, n) matrix, stored latent by latent."""
    return w_enc.T.contiguous().T
