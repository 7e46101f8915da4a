"""What gossamer has to know of a model architecture, and where that leads in one model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import KINDS, Site

ATTENTION_KINDS = ("q", "k", "v", "pattern")

Side = Literal["input", "output", "stream"]


def _serial(config: Any) -> bool:
    return False


def _no_softcap(config: Any) -> float | None:
    return None


@dataclass(frozen=True)
class Family:
    """The facts of one architecture: module paths in its Hugging Face implementation, and nothing else.

    To add an architecture, write one of these and pass it to `LanguageModel.load(..., family=...)`; the checks at load
    say whether it is right. Paths below `layers` are relative to one layer.

    Attributes:
        name: what messages call it.
        model_types: the `model_type` of the configurations it describes.
        layers: path of the list of layers; the model around it ends with the final norm.
        norm: path of the final norm.
        attention: module that computes attention.
        z: module whose input is the concatenated head outputs (the output projection).
        attn_out: module whose output attention adds to the residual stream.
        mlp_norm: the MLP's norm; its input is the stream between attention and MLP.
        mlp: module whose input has been through `mlp_norm`.
        mlp_out: module whose output the MLP adds to the stream.
        parallel: from the model's configuration, whether attention and MLP read the same stream.
        softcap: from the configuration, the cap c of final logits, c * tanh(logits / c); None without one.
        core: "interface" if attention dispatches through transformers' attention interface, else the name of the
            method `(query, key, value, mask) -> (out, pattern)` of the attention module (out: batch head pos d_head).
        layer_returns_tuple: whether a layer returns a tuple that begins with the stream.
    """

    name: str
    model_types: tuple[str, ...]
    layers: str
    norm: str
    attention: str
    z: str
    attn_out: str
    mlp_norm: str
    mlp: str
    mlp_out: str
    parallel: Callable[[Any], bool] = _serial
    softcap: Callable[[Any], float | None] = _no_softcap
    core: str = "interface"
    layer_returns_tuple: bool = False


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
        self.parallel = family.parallel(self.config)
        self.softcap = family.softcap(self.config)

    def _module(self, parent: nn.Module, path: str) -> nn.Module:
        try:
            return parent.get_submodule(path)
        except AttributeError as error:
            raise GossamerError(
                f"family {self.family.name}: expected a module {path} in {type(parent).__name__}, found none; "
                f"correct the family's paths"
            ) from error

    def attention(self, layer: int) -> nn.Module:
        """The module of `layer` that computes attention."""
        return self._module(self.layers[layer], self.family.attention)

    def kinds(self) -> Iterator[str]:
        """The site kinds this model has."""
        return (kind for kind in KINDS if not (kind == "resid_mid" and self.parallel))

    def check(self, site: Site) -> None:
        """Raise :class:`UsageError` unless the model has `site`."""
        if site.layer is not None and site.layer >= len(self.layers):
            raise UsageError(f"{site}: the model has {len(self.layers)} layers, 0 to {len(self.layers) - 1}")
        if site.kind == "resid_mid" and self.parallel:
            raise UsageError(
                f"{site}: attention and MLP of this model run in parallel, so there is no stream between them; "
                f"use resid_pre or resid_post"
            )

    def place(self, site: Site) -> tuple[nn.Module, Side]:
        """The module that touches `site`, and whether the site is its input, its output, or the stream it reads."""
        facts, layer = self.family, self.layers[site.layer or 0]
        if site.kind in ("embed", "resid_pre"):
            return layer, "input"
        if site.kind == "resid_post":
            return layer, "output"
        path, side = _INSIDE[site.kind](facts)
        return self._module(layer, path), side


_INSIDE: dict[str, Callable[[Family], tuple[str, Side]]] = {
    "z": lambda facts: (facts.z, "input"),
    "attn_out": lambda facts: (facts.attn_out, "output"),
    "resid_mid": lambda facts: (facts.mlp_norm, "stream"),
    "mlp_in": lambda facts: (facts.mlp, "input"),
    "mlp_out": lambda facts: (facts.mlp_out, "output"),
}
