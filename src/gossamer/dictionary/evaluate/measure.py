"""The measurements: two passes of the model over the text, whatever the number of dictionaries."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.dictionary.attach import counted_tokens
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.evaluate.evaluation import Evaluation, Position
from gossamer.dictionary.evaluate.predictions import cross_entropy, divergence, log_odds
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.progress import begin
from gossamer.tokens import Tokens

Sums = dict[str, Tensor]
_BATCH = 16


def evaluate(
    model: LanguageModel,
    dictionaries: Mapping[Site, Dictionary],
    tokens: Tokens,
    *,
    include_bos: bool = False,
    batch_size: int = _BATCH,
) -> dict[Site, Evaluation]:
    """Measure each dictionary alone: reconstruction, sparsity, and what its splice does to the model's predictions.

    Cost: for each batch one pass of the model, and for each dictionary two passes from its site on. Memory: the logits
    of one batch three times, and the activations of one batch at all sites.

    Args:
        tokens: rows of ordinary text.
        include_bos: measure and replace BOS too (by default it passes through and is left out: its activations are
            unlike all others, and one such token can make every average).

    Raises:
        UsageError: fewer than two tokens to measure, or no row of two tokens.
        NotFiniteError: activations, reconstructions or logits are not finite.
    """
    kept = tokens.mask if include_bos else counted_tokens(model, tokens)
    predicted = int(tokens.mask[:, 1:].sum())
    if int(kept.sum()) < 2 or not predicted:
        raise UsageError("evaluating dictionaries needs at least two tokens besides BOS and padding; give more text")
    means = _means(model, list(dictionaries), tokens, kept, batch_size)
    advance = begin("evaluating", len(tokens))

    def batch(rows: slice) -> dict[Site, Sums]:
        with torch.no_grad():
            found = _batch(model, dictionaries, means, tokens[rows], kept[rows])
        advance(rows.stop - rows.start, "")
        return found

    parts = in_batches(len(tokens), batch_size, batch)
    totals = {site: _added([part[site] for part in parts]) for site in dictionaries}
    return {site: _evaluation(site, dictionaries[site], totals[site], predicted, include_bos) for site in dictionaries}


def _means(
    model: LanguageModel, sites: list[Site], tokens: Tokens, kept: Bool[Tensor, "batch pos"], batch_size: int
) -> dict[Site, Float[Tensor, "d"]]:
    def batch(rows: slice) -> dict[Site, Tensor]:
        with torch.no_grad():
            captured = model.capture(tokens[rows], sites)
        return {site: x[kept[rows].to(x.device)].double().sum(dim=0) for site, x in captured.items()}

    parts = in_batches(len(tokens), batch_size, batch)
    return {site: torch.stack([part[site] for part in parts]).sum(dim=0) / int(kept.sum()) for site in sites}


def _batch(
    model: LanguageModel,
    dictionaries: Mapping[Site, Dictionary],
    means: Mapping[Site, Tensor],
    tokens: Tokens,
    kept: Bool[Tensor, "batch pos"],
) -> dict[Site, Sums]:
    streams = model.capture(tokens, list(dictionaries))
    clean = log_odds(model, tokens)
    ce_model = cross_entropy(clean, tokens)
    found: dict[Site, Sums] = {}
    for site, dictionary in dictionaries.items():
        x = require_finite(streams[site], f"activations at {site}")
        here = kept.to(x.device)
        out, sums = _reconstruction(dictionary, x[here], means[site])
        sums |= _by_position(sums.pop("rows"), here)
        made = x.index_put((here.nonzero(as_tuple=True)), out.to(x.dtype))
        for name, stream in (("spliced", made), ("zero", x * ~here[..., None])):
            edited = _with_stream(model, tokens, site, stream)
            sums[f"ce_{name}"] = cross_entropy(edited, tokens)
            sums[f"kl_{name}"] = divergence(clean, edited, tokens)
        found[site] = {**sums, "ce_model": ce_model}
    return found


def _with_stream(model: LanguageModel, tokens: Tokens, site: Site, stream: Tensor) -> Float[Tensor, "batch pos vocab"]:
    with model.edit({site: lambda _: stream}):
        return log_odds(model, tokens)


def _reconstruction(dictionary: Dictionary, x: Float[Tensor, "tokens d"], mean: Tensor) -> tuple[Tensor, Sums]:
    """The reconstruction of each token, and sums over tokens; "rows" has L0, error and spread of each."""
    latents = dictionary.encode(x)
    _, statistics = dictionary.normalise(x)
    out = dictionary.denormalise(dictionary.decode(latents), statistics)
    exact, made = x.double(), require_finite(out, f"reconstruction at {dictionary.site}").double()
    error, spread = (exact - made).square().sum(dim=1), (exact - mean.to(exact.device)).square().sum(dim=1)
    norm_in, norm_out, product = exact.norm(dim=1), made.norm(dim=1), (exact * made).sum(dim=1)
    l0, active = latents.l0.double(), latents.indices[latents.values > 0]
    return out, {
        "tokens": torch.tensor(float(len(x)), dtype=torch.float64),
        "l0": l0.sum(),
        "l1": latents.values.double().sum(),
        "error": error.sum(),
        "spread": spread.sum(),
        "legacy": (1 - error / spread).sum(),
        "cosine": (product / (norm_in * norm_out)).nan_to_num(0.0).sum(),
        "norm_in": norm_in.sum(),
        "norm_out": norm_out.sum(),
        "norm_ratio": (norm_out / norm_in).sum(),
        "energy_out": norm_out.square().sum(),
        "product": product.sum(),
        "fired": torch.bincount(active, minlength=dictionary.n_latents),
        "rows": torch.stack([torch.ones_like(l0), l0, error, spread]),
    }


def _by_position(rows: Float[Tensor, "four tokens"], kept: Bool[Tensor, "batch pos"]) -> Sums:
    position = kept.nonzero()[:, 1]
    sums = rows.new_zeros(len(rows), kept.shape[1]).index_add(1, position, rows)
    return {"positions": sums}


def _added(parts: list[Sums]) -> Sums:
    return {name: torch.stack([part[name].cpu() for part in parts]).sum(dim=0) for name in parts[0]}


def _evaluation(site: Site, dictionary: Dictionary, sums: Sums, predicted: int, include_bos: bool) -> Evaluation:
    total = {name: value.item() for name, value in sums.items() if value.ndim == 0}
    tokens = total["tokens"]
    per_token = {name: total[name] / tokens for name in ("l0", "l1", "cosine", "norm_in", "norm_out", "norm_ratio")}
    predictions = {
        name: total[name] / predicted for name in ("ce_model", "ce_spliced", "ce_zero", "kl_spliced", "kl_zero")
    }
    return Evaluation(
        site=site,
        tokens=int(tokens),
        predicted=predicted,
        mse=total["error"] / tokens / dictionary.d_in,
        explained_variance=1 - total["error"] / total["spread"] if total["spread"] > 0 else float("nan"),
        explained_variance_legacy=total["legacy"] / tokens,
        reconstruction_bias=total["energy_out"] / total["product"] if total["product"] else float("nan"),
        fired=sums["fired"],
        positions=tuple(
            Position(place, int(count), l0 / count, error / spread if spread else float("nan"))
            for place, (count, l0, error, spread) in enumerate(sums["positions"].T.tolist())
            if count
        ),
        includes_bos=include_bos,
        **per_token,
        **predictions,
    )
