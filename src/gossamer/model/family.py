"""What gossamer has to know of a model architecture: module paths and flags, and nothing else."""

import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

from gossamer.display import listed, short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.files import read_text
from gossamer.yaml_files import read_yaml

Fused = Literal["concatenated", "interleaved"]


@dataclass(frozen=True)
class Family:
    """The facts of one architecture: module paths in its Hugging Face implementation, and nothing else.

    To add an architecture, write one of these and pass it to `LanguageModel.load(..., family=...)`, or write the same
    fields into a file and name it with `--family`; the checks at load say whether it is right. Paths below `layers`
    are relative to one layer. Where a fact depends on a model's configuration, the field holds the name of the entry.

    Attributes:
        name: what messages call it.
        model_types: the `model_type` of the configurations it describes.
        layers: path of the list of layers; the model around it ends with the final norm.
        norm: path of the final norm.
        attention: module that computes attention.
        z: module whose input is the concatenated head outputs (the output projection).
        attn_out: module whose output attention adds to the residual stream.
        mlp: module that computes the MLP.
        mlp_out: module whose output the MLP adds to the stream.
        attention_norm: the norm of what attention reads; None if it reads the stream itself.
        mlp_norm: the norm of what the MLP reads (its input is then the stream between attention and MLP); None if the
            MLP reads the stream itself. In parallel blocks without it the MLP reads attention's norm.
        post_norms: whether `attn_out` and `mlp_out` are norms.
        q, k, v: modules that project attention's input to queries, keys and values; all the same one if `fused`. None
            leaves out the sites and weights that need them.
        fused: how one module puts out all three: "concatenated" (queries of all heads, then keys, then values) or
            "interleaved" (query, key and value of one head after the other). None if there are three modules.
        parallel: whether attention and MLP read the same stream, or the name of the entry that says so.
        softcap: name of the entry with the cap c of final logits, c * tanh(logits / c); None without one.
        residual_multiplier: name of the entry by which what attention and MLP put out is multiplied before it is added.
        logit_multiplier, logit_divisor: names of entries by which the head's output is multiplied or divided.
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
    mlp: str
    mlp_out: str
    attention_norm: str | None = None
    mlp_norm: str | None = None
    post_norms: bool = False
    q: str | None = None
    k: str | None = None
    v: str | None = None
    fused: Fused | None = None
    parallel: bool | str = False
    softcap: str | None = None
    residual_multiplier: str | None = None
    logit_multiplier: str | None = None
    logit_divisor: str | None = None
    core: str = "interface"
    layer_returns_tuple: bool = False

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.name
        yield f"of {listed(self.model_types)}"

    @property
    def rescales(self) -> bool:
        """Whether what attention and MLP modules put out is normed or multiplied before it is added to the stream."""
        return self.post_norms or self.residual_multiplier is not None

    @classmethod
    def read(cls, path: str | Path) -> "Family":
        """A family from a file that holds its fields as YAML, JSON or TOML; `model_types` may be left out.

        Raises:
            UsageError: no such file, another syntax, a field that is missing, unknown or of another type.
        """
        path = Path(path)
        found = {"model_types": [], **_mapping(path)}
        hints = get_type_hints(cls)
        if missing := [field.name for field in fields(cls) if field.default is MISSING and field.name not in found]:
            raise UsageError(f"{path}: expected a family's fields, found no {', '.join(missing)}; add them")
        for name, value in found.items():
            if name not in hints:
                raise UsageError(f"{path}: unknown field {name!r}; expected some of {', '.join(hints)}")
            _require_type(name, value, hints[name], path)
        return cls(**{**found, "model_types": tuple(found["model_types"])})


def _mapping(path: Path) -> dict[str, Any]:
    try:
        return read_yaml(path) if path.suffix != ".toml" else tomllib.loads(read_text(path, "a family's fields"))
    except GossamerError as error:
        # The file is the user's own.
        raise UsageError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected TOML, found: {' '.join(str(error).split())[:200]}") from None


def _require_type(name: str, value: object, hint: Any, path: Path) -> None:
    if name == "model_types":
        right, expected = isinstance(value, list) and all(isinstance(one, str) for one in value), "a list of texts"
    elif name == "fused":
        right, expected = value in ("concatenated", "interleaved", None), "concatenated or interleaved"
    else:
        right, expected = isinstance(value, hint), "a text" if hint is str else str(hint)
    if not right:
        raise UsageError(f"{path}: field {name}: expected {expected}, found {value!r}")
