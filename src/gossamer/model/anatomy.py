"""Where the facts of a family lead in one model: its modules, its sites, its norms and its projections."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gossamer.errors import GossamerError, UsageError
from gossamer.model.family import Family
from gossamer.model.kinds import KINDS
from gossamer.model.norm import Norm
from gossamer.model.site import Site

# How a module touches a site: as its input, its output, the stream it reads (which the layer keeps for its sum), a
# norm's scale or what it has centred and scaled, or as heads of a projection's output.
Touch = Literal["input", "output", "stream", "scale", "normalized", "heads"]

# Fields of a family that name the norm behind a kind, and what this norm shows of it.
_NORMS: dict[str, tuple[str, Touch]] = {
    "attn_norm_scale": ("attention_norm", "scale"),
    "attn_normalized": ("attention_norm", "normalized"),
    "attn_post_norm_scale": ("attn_out", "scale"),
    "mlp_norm_scale": ("mlp_norm", "scale"),
    "mlp_normalized": ("mlp_norm", "normalized"),
    "mlp_post_norm_scale": ("mlp_out", "scale"),
}
_PARTS: dict[str, tuple[str, Touch]] = {
    "attn_in": ("attention", "input"),
    "q_proj": ("q", "heads"),
    "k_proj": ("k", "heads"),
    "z": ("z", "input"),
    "attn_out": ("attn_out", "output"),
    "mlp_in": ("mlp", "input"),
    "mlp_out": ("mlp_out", "output"),
}


class Anatomy:
    """The modules of one model that its family names.

    Raises:
        GossamerError: the model lacks a module that its family promises.
    """

    def __init__(self, family: Family, hf: nn.Module) -> None:
        self.family = family
        self.modules = tuple(hf.modules())
        head = getattr(hf, "get_output_embeddings", lambda: None)()
        if not isinstance(head, nn.Module):
            raise UsageError(
                f"a {type(hf).__name__} has no language-model head; load it with transformers' AutoModelForCausalLM"
            )
        self.head: nn.Module = head
        self.base = self._module(hf, family.layers.rpartition(".")[0])
        self.layers_name = family.layers.rpartition(".")[2]
        layers = self._module(hf, family.layers)
        if not isinstance(layers, nn.ModuleList):
            raise GossamerError(
                f"family {family.name}: expected a list of layers at {family.layers}, found a {type(layers).__name__}"
            )
        self.layers: nn.ModuleList = layers
        self.norm = self._module(hf, family.norm)
        self.config: Any = self.base.config
        self.parallel = bool(self._fact("parallel")) if isinstance(family.parallel, str) else family.parallel
        self.softcap = self._fact("softcap")
        self.residual_multiplier = self._fact("residual_multiplier") or 1.0
        self.logit_multiplier = (self._fact("logit_multiplier") or 1.0) / (self._fact("logit_divisor") or 1.0)
        self._norms: dict[nn.Module, Norm] = {}

    def _fact(self, field: str) -> Any:
        entry = getattr(self.family, field)
        if entry is not None and not hasattr(self.config, entry):
            raise GossamerError(
                f"family {self.family.name}: expected the entry {entry} in the model's configuration ({field}), "
                f"found none; correct the family"
            )
        return None if entry is None else getattr(self.config, entry)

    def _module(self, parent: nn.Module, path: str) -> nn.Module:
        try:
            return parent.get_submodule(path)
        except AttributeError as error:
            raise GossamerError(
                f"family {self.family.name}: expected a module {path} in {type(parent).__name__}, found none; "
                f"correct the family's paths"
            ) from error

    def part(self, layer: int, field: str) -> nn.Module:
        """The module of `layer` whose path the family's `field` holds."""
        return self._module(self.layers[layer], getattr(self.family, field))

    @property
    def n_heads(self) -> int:
        """Query heads of a layer."""
        return int(self.config.num_attention_heads)

    @property
    def n_kv_heads(self) -> int:
        """Key and value heads of a layer."""
        return int(getattr(self.config, "num_key_value_heads", None) or self.n_heads)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.config.hidden_size)

    @property
    def d_head(self) -> int:
        """Width of a head."""
        return int(getattr(self.config, "head_dim", None) or self.d_model // self.n_heads)

    def mlp_norm(self, layer: int) -> nn.Module | None:
        """The norm of what the MLP reads: its own, or in a parallel block without one attention's."""
        if self.family.mlp_norm is not None:
            try:
                return self.part(layer, "mlp_norm")
            except GossamerError:
                if not self.parallel:
                    raise
        return self.part(layer, "attention_norm") if self.parallel and self.family.attention_norm else None

    def has(self, kind: str) -> bool:
        """Whether the model has sites of `kind`."""
        facts = self.family
        if kind == "final_norm_scale":
            return not isinstance(self.norm, nn.Identity)
        if kind == "resid_mid":
            return not self.parallel
        if kind in ("attn_norm_scale", "attn_normalized"):
            return facts.attention_norm is not None
        if kind in ("attn_post_norm_scale", "mlp_post_norm_scale"):
            return facts.post_norms
        if kind in ("mlp_norm_scale", "mlp_normalized"):
            own = self.mlp_norm(0)
            return own is not None and not (kind == "mlp_norm_scale" and self.shares_norm)
        return not (kind in ("q_proj", "k_proj") and (facts.q is None or facts.k is None))

    @property
    def shares_norm(self) -> bool:
        """Whether attention and MLP read the output of one norm."""
        norm = self.mlp_norm(0)
        return norm is not None and self.family.attention_norm is not None and norm is self.part(0, "attention_norm")

    def kinds(self) -> Iterator[str]:
        """The site kinds this model has."""
        return (kind for kind in KINDS if self.has(kind))

    def check(self, site: Site) -> None:
        """Raise :class:`UsageError` unless the model has `site`."""
        if site.layer is not None and site.layer >= len(self.layers):
            raise UsageError(f"{site}: the model has {len(self.layers)} layers, 0 to {len(self.layers) - 1}")
        if self.has(site.kind):
            return
        if site.kind == "resid_mid":
            raise UsageError(
                f"{site}: attention and MLP of this model run in parallel, so there is no stream between them; "
                f"use resid_pre or resid_post"
            )
        raise UsageError(f"{site}: models of family {self.family.name} have no such site; see LanguageModel.kinds")

    def place(self, site: Site) -> tuple[nn.Module, Touch]:
        """The module that touches `site`, and how."""
        layer = site.layer or 0
        if site.kind in ("embed", "resid_pre"):
            return self.layers[layer], "input"
        if site.kind == "resid_post":
            return self.layers[layer], "output"
        if site.kind == "final_norm_scale":
            return self.norm, "scale"
        if site.kind == "resid_mid":
            return self.mlp_norm(layer) or self.part(layer, "mlp"), "stream"
        field, touch = {**_NORMS, **_PARTS}[site.kind]
        if field == "mlp_norm":
            norm = self.mlp_norm(layer)
            assert norm is not None
            return norm, touch
        return self.part(layer, field), touch

    def multiplier(self, site: Site) -> float:
        """What a module's output is multiplied by to give the value of `site`."""
        return self.residual_multiplier if site.facts.added else 1.0

    def norm_of(self, module: nn.Module) -> Norm:
        """What is known of a norm, found out once."""
        if module not in self._norms:
            try:
                self._norms[module] = Norm(module, self.d_model)
            except (TypeError, ValueError, IndexError, RuntimeError, AttributeError) as error:
                raise GossamerError(
                    f"family {self.family.name}: expected a norm (attention_norm, mlp_norm, norm and, with post_norms, "
                    f"attn_out and mlp_out), found a {type(module).__name__}; correct the family's paths"
                ) from error
        return self._norms[module]

    def output_norm(self, layer: int) -> Norm | None:
        """The norm between attention and the stream, of the families that have one."""
        return self.norm_of(self.part(layer, "attn_out")) if self.family.post_norms else None

    def heads(self, projected: Float[Tensor, "... out"], which: Literal["q", "k", "v"]) -> Float[Tensor, "... head d"]:
        """Queries, keys or values of all heads as a view of what their module puts out (or of its weights)."""
        d, fused, index = self.d_head, self.family.fused, "qkv".index(which)
        sizes = (self.n_heads * d, self.n_kv_heads * d, self.n_kv_heads * d)
        expected = {None: sizes[index], "concatenated": sum(sizes), "interleaved": 3 * sizes[0]}[fused]
        if projected.shape[-1] != expected or (fused == "interleaved" and sizes[0] != sizes[1]):
            raise GossamerError(
                f"family {self.family.name}: expected {fused or 'separate'} projections to {which} of width "
                f"{expected}, found {projected.shape[-1]}; correct the family's {which} and fused"
            )
        if fused == "interleaved":
            return torch.unflatten(projected, -1, (self.n_heads, 3, d))[..., index, :]
        if fused == "concatenated":
            projected = projected.narrow(-1, sum(sizes[:index]), sizes[index])
        return torch.unflatten(projected, -1, (-1, d))
