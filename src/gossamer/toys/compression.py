"""Compiled models in fewer dimensions, as Tracr compresses them (Lindner et al. 2023, section 5).

One matrix W (directions, d_model) for the whole model: what was written along direction i is written along row i of W,
and what was read along it is read along the same row, so that a stream x in labelled directions becomes x W and is read
as x W W^T. With fewer dimensions than the streams span, directions share dimensions (superposition) and disturb each
other; with as many, the orthogonal W of "pca" changes nothing. With fewer a learned W can still compute every output:
which programs do, and down to which width, is in docs/toys.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call

from gossamer.errors import UsageError
from gossamer.tokens import Tokens
from gossamer.toys.compiler import Compiled
from gossamer.toys.rasp import Value
from gossamer.toys.transformer import ToyConfig, ToyTransformer

Projection = Literal["pca", "learned"]
_WRITING = ("o_proj.weight", "down_proj.weight")
_READING = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "up_proj.weight", "lm_head.weight")
_EMBEDDING = ("embed_tokens.weight", "embed_positions.weight")


def compress(
    compiled: Compiled,
    d_model: int,
    inputs: Sequence[Sequence[Value]],
    *,
    projection: str = "pca",
    steps: int = 500,
    learning_rate: float = 1e-3,
) -> Compiled:
    """The same program in a residual stream of `d_model` dimensions.

    Args:
        compiled: an uncompressed model.
        d_model: width wanted.
        inputs: whose streams decide what matters.
        projection: "pca": W spans the `d_model` strongest directions of the streams before and after every layer
            (uncentred). "learned": W starts there and is trained by Adam so that the compressed model has the logits
            and, read back through W^T, the streams of the original; it need not be orthogonal. No random numbers.
        steps, learning_rate: of "learned".

    Raises:
        UsageError: an unknown projection, a model that is compressed already, or a width that is not smaller.
    """
    n = len(compiled.directions)
    if projection not in get_args(Projection):
        raise UsageError(f"projection: {' or '.join(get_args(Projection))} expected, found {projection!r}")
    if compiled.hf.config.hidden_size != n or not 1 <= d_model < n:
        raise UsageError(
            f"an uncompressed model and a d_model from 1 to {n - 1} expected, found width "
            f"{compiled.hf.config.hidden_size} and d_model={d_model}"
        )
    tokens = compiled.encode(inputs)
    w = _principal(compiled, tokens, d_model)
    wide = compiled.hf.config
    fields = {name: value for name, value in wide.to_dict().items() if name != "hidden_size"}
    narrow = ToyConfig(**fields, hidden_size=d_model, name_or_path=wide.name_or_path)
    hf = ToyTransformer(narrow).eval().requires_grad_(False)
    if projection == "learned":
        w = _learned(compiled, hf, tokens, w, steps, learning_rate)
    hf.load_state_dict(_projected(compiled.hf.state_dict(), w))
    return replace(compiled, hf=hf, projection=w)


def _principal(compiled: Compiled, tokens: Tokens, d_model: int) -> Float[Tensor, "direction d_model"]:
    """Leading right singular vectors of all streams at real tokens."""
    with torch.no_grad():
        streams = torch.stack(compiled.hf(**_inputs(tokens)).hidden_states)[:, tokens.mask]
    return torch.linalg.svd(streams.flatten(0, 1).double(), full_matrices=False).Vh[:d_model].T.float()


def _inputs(tokens: Tokens) -> dict[str, Tensor]:
    return {"input_ids": tokens.ids, "attention_mask": tokens.mask}


def _projected(weights: Mapping[str, Tensor], w: Float[Tensor, "direction d_model"]) -> dict[str, Tensor]:
    """Every weight for the narrow stream; differentiable in `w`."""
    found = {}
    for name, weight in weights.items():
        if name.endswith(_WRITING):
            weight = w.T @ weight
        elif name.endswith((*_READING, *_EMBEDDING)):
            weight = weight @ w
        found[name] = weight
    return found


def _learned(
    compiled: Compiled, hf: ToyTransformer, tokens: Tokens, start: Tensor, steps: int, learning_rate: float
) -> Float[Tensor, "direction d_model"]:
    """W trained on mean squared errors of streams (summed over directions and layers) and of logits."""
    weights, inputs, real = compiled.hf.state_dict(), _inputs(tokens), tokens.mask
    with torch.no_grad():
        wanted = compiled.hf(**inputs)
    w = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([w], lr=learning_rate)
    best, lowest = start, float("inf")
    for _ in range(steps):
        found = functional_call(hf, _projected(weights, w), (), inputs)
        pairs = zip(found.hidden_states, wanted.hidden_states, strict=True)
        streams = torch.stack([(narrow @ w.T - wide)[real].square().sum(dim=-1).mean() for narrow, wide in pairs])
        loss = streams.sum() + (found.logits - wanted.logits)[real].square().mean()
        if loss.item() < lowest:
            best, lowest = w.detach().clone(), loss.item()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
    return best
