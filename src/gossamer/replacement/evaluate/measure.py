"""The measurements: one pass of the model over the text, and for every dictionary the layers after its site."""

from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.activations.loudness import warn_of_loud_tokens
from gossamer.activations.stream import BATCH, ActivationBatch, ActivationStream
from gossamer.activations.token_mask import TokenMask
from gossamer.batching import distinct_rows
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.encoding_method import EncodingMethod
from gossamer.dictionary.training_tokens import TrainingTokens, counted_for
from gossamer.display import plural
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.cost import HEAD, Cost, head_operations, operations_per_second, pass_operations
from gossamer.model.language_model import LanguageModel
from gossamer.model.predictions import compare_predictions, predicting
from gossamer.model.site import BySite, Site, SiteMapping, by_site
from gossamer.progress import announce
from gossamer.replacement.evaluate.evaluation import Evaluation, Position, SaeBenchMeasures
from gossamer.replacement.replacement_model import ReplacementModel
from gossamer.sparse.latents import SparseLatents
from gossamer.tokens import Tokens

Sums = dict[str, Tensor]
Name = TypeVar("Name", bound=Hashable)


def evaluate(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    tokens: Tokens,
    *,
    mask: TokenMask | None = None,
    batch_size: int = BATCH,
    saebench: bool = False,
) -> BySite[Evaluation]:
    """Measure each dictionary alone; see :func:`evaluate_methods`."""
    methods = {
        site: EncodingMethod(dictionary, dictionary.encode) for site, dictionary in by_site(dictionaries).items()
    }
    return BySite(evaluate_methods(model, methods, tokens, mask=mask, batch_size=batch_size, saebench=saebench))


def evaluate_methods(
    model: LanguageModel,
    methods: Mapping[Name, EncodingMethod],
    tokens: Tokens,
    *,
    mask: TokenMask | None = None,
    batch_size: int = BATCH,
    saebench: bool = False,
) -> dict[Name, Evaluation]:
    """Measure each method alone: reconstruction, sparsity, and what its splice does to the model's predictions.

    Cost: one pass of the model (two where the activations of all tokens are too many to keep), and for each method the
    layers after its site; for zero these run once for all rows that it leaves equal. Memory: the activations of one
    batch at all sites, twice for each method, those of all tokens where they are at most 256 MiB, and what
    `compare_predictions` takes.

    Args:
        methods: what to measure, by any name; several may read the same site.
        tokens: rows of ordinary text.
        mask: which tokens are measured and replaced; the others pass through. None: those on which all of the
            dictionaries learned. `REAL_TOKENS`: BOS and sinks too, whose activations are unlike all others, so that one
            of them can make every average.
        saebench: whether to measure what :func:`to_saebench` needs besides: where some tokens pass through, the layers
            after each site run once more.

    Raises:
        UsageError: fewer than two tokens to measure, no row of two tokens, or a transcoder.
        NotFiniteError: activations, reconstructions or logits are not finite.

    Warns:
        LoudTokensWarning: a few tokens carry most of the variance of a site.
    """
    for method in methods.values():
        method.dictionary.require_reconstruction("evaluation")
    networks = {method.site: ReplacementModel(model, {method.site: method.dictionary}) for method in methods.values()}
    counted = counted_for(model, [method.dictionary for method in methods.values()], tokens, mask)
    ends = {model.sites("resid_post")[-1], *(network.start for network in networks.values())}
    sites = sorted({*networks, *ends})
    stream = ActivationStream(model, tokens, sites, mask=counted, batch_size=batch_size, keep=True)
    predicted = int(predicting(tokens).sum())
    if int(counted.sum()) < 2 or not predicted:
        raise UsageError("evaluating dictionaries needs at least two tokens besides BOS and padding; give more text")
    what = f"evaluating {plural(len(methods), 'dictionary', 'dictionaries')} on {predicted:,} tokens"
    announce(lambda: f"{what}: {_cost(stream, networks, methods, predicted)}")
    means = stream.means(list(networks))
    # SAEBench zeroes all tokens, so that its scores are relative to more damage where some pass through.
    everywhere = saebench and not torch.equal(stream.counted, tokens.mask.to(stream.counted.device))
    measured = partial(_measured, model, methods, networks, means, saebench=saebench, everywhere=everywhere)
    parts = replace(stream, what="evaluating").map(measured)
    spreads = {name: torch.cat([part[name].pop("spreads").cpu() for part in parts]) for name in methods}
    for site, name in {method.site: name for name, method in methods.items()}.items():
        warn_of_loud_tokens(spreads[name], str(site))
    totals = {name: _added([part[name] for part in parts]) for name in methods}
    included = {name: (mask or TrainingTokens.of(method.dictionary).mask).bos for name, method in methods.items()}
    facts = (str(model.dtype).removeprefix("torch."), *tokens.ids.shape) if saebench else None
    return {
        name: _evaluation(method, totals[name], predicted, included[name], facts) for name, method in methods.items()
    }


def _cost(
    stream: ActivationStream,
    networks: Mapping[Site, ReplacementModel],
    methods: Mapping[Name, EncodingMethod],
    tokens: int,
) -> str:
    """Time and memory in words: a pass for all, and for each method, and zero, the later layers and the head."""
    model = stream.model
    head = HEAD * head_operations(model)
    after = {site: pass_operations(model, (site.layer or 0) + (site.kind == "resid_post")) for site in networks}
    work = stream.passes * pass_operations(model) + head
    work += sum(after[method.site] + head for method in methods.values())
    work += _share_of_zero(stream) * sum(each + head for each in after.values())
    logits = 7 * 2**24 * 4
    return Cost(tokens * work / operations_per_second(model), logits).told(model)


def _share_of_zero(stream: ActivationStream) -> float:
    """Of the rows, those that zero does not make equal to another one of their batch: by what passes through them."""
    tokens, counted = stream.tokens, stream.counted.to(stream.tokens.ids.device)
    through = tokens.ids.masked_fill(counted | ~tokens.mask, -1)
    starts = range(0, len(tokens), stream.batch_size)
    batches = (slice(start, start + stream.batch_size) for start in starts)
    return sum(len(distinct_rows(through[rows], tokens.mask[rows])[0]) for rows in batches) / len(tokens)


def _measured(
    model: LanguageModel,
    methods: Mapping[Name, EncodingMethod],
    networks: Mapping[Site, ReplacementModel],
    means: Mapping[Site, Tensor],
    batch: ActivationBatch,
    *,
    saebench: bool,
    everywhere: bool,
) -> dict[Name, Sums]:
    last = model.sites("resid_post")[-1]

    def zeroed(site: Site, mask: Tensor) -> Tensor:
        """The last stream with 0 at the site."""
        x, network = batch.at(site), networks[site]
        zero = x.new_zeros(x.shape[-1])
        return network.capture_ablated(batch.tokens, mask, last, {site: zero}, batch.values[network.start])

    def holding(site: Site, value: Tensor) -> Tensor:
        """The last stream with `value` at the site."""
        network = networks[site]
        prefix = batch.values[network.start]
        return network.capture(batch.tokens, batch.mask, [last], prefix=prefix, reconstruct=lambda _, __: value)[last]

    edited: dict[str, Tensor] = {}
    for site in networks:
        edited[f"zero {site}"] = zeroed(site, batch.mask)
        if everywhere:
            edited[f"zero everywhere {site}"] = zeroed(site, batch.tokens.mask)
    found: dict[Name, Sums] = {}
    for name, method in methods.items():
        x = batch.values[method.site]
        here = batch.mask.to(x.device)
        out, latents, sums = _reconstruction(method, x[here], means[method.site])
        edited[f"spliced {name}"] = holding(method.site, x.index_put(here.nonzero(as_tuple=True), out.to(x.dtype)))
        rows = sums.pop("rows")
        found[name] = sums | {"spreads": rows[-1], "positions": _by_position(rows, here)}
        if saebench:
            found[name]["fired_rows"] = _rows_of(latents, here)
    ce_model, predictions = compare_predictions(model, batch.values[last], edited, batch.tokens)
    for name, method in methods.items():
        zero, spliced = predictions[f"zero {method.site}"], predictions[f"spliced {name}"]
        found[name] |= {"ce_model": ce_model, "ce_zero": zero.cross_entropy, "kl_zero": zero.kl}
        found[name] |= {"ce_spliced": spliced.cross_entropy, "kl_spliced": spliced.kl}
        if saebench:
            zero = predictions.get(f"zero everywhere {method.site}", zero)
            found[name] |= {"ce_zero_everywhere": zero.cross_entropy, "kl_zero_everywhere": zero.kl}
    return found


def _reconstruction(
    method: EncodingMethod, x: Float[Tensor, "tokens d"], mean: Tensor
) -> tuple[Tensor, SparseLatents, Sums]:
    """The reconstruction of each token, its latents, and sums over tokens; "rows" has L0, error and spread of each."""
    dictionary = method.dictionary
    latents = method.encode(x)
    out = dictionary.reconstruct(x, latents)
    exact, made = x.double(), require_finite(out, f"reconstruction at {dictionary.site}").double()
    error, spread = (exact - made).square().sum(dim=1), (exact - mean.to(exact.device)).square().sum(dim=1)
    norm_in, norm_out, product = exact.norm(dim=1), made.norm(dim=1), (exact * made).sum(dim=1)
    l0, active = latents.l0.double(), latents.latents[latents.activations > 0]
    sums = {
        "tokens": torch.tensor(float(len(x)), dtype=torch.float64),
        "l0": l0.sum(),
        "l1": latents.activations.double().sum(),
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
    return out, latents, sums


def _by_position(rows: Float[Tensor, "four tokens"], kept: Bool[Tensor, "batch pos"]) -> Float[Tensor, "four pos"]:
    position = kept.nonzero()[:, 1]
    return rows.new_zeros(len(rows), kept.shape[1]).index_add(1, position, rows)


def _rows_of(latents: SparseLatents, kept: Bool[Tensor, "batch pos"]) -> Int[Tensor, "n"]:
    """In how many rows each latent is active."""
    active, row = latents.activations > 0, kept.nonzero()[:, 0]
    pairs = row[latents.tokens[active]] * latents.n_latents + latents.latents[active]
    return torch.bincount(torch.unique(pairs) % latents.n_latents, minlength=latents.n_latents)


def _added(parts: list[Sums]) -> Sums:
    return {name: torch.stack([part[name].cpu() for part in parts]).sum(dim=0) for name in parts[0]}


def _evaluation(
    method: EncodingMethod, sums: Sums, predicted: int, include_bos: bool, saebench: tuple[str, int, int] | None
) -> Evaluation:
    """`saebench`: the model's dtype and the shape of the text, if SAEBench's measures were taken."""
    total = {name: value.item() for name, value in sums.items() if value.ndim == 0}
    tokens = total["tokens"]
    per_token = {name: total[name] / tokens for name in ("l0", "l1", "cosine", "norm_in", "norm_out", "norm_ratio")}
    predictions = {
        name: total[name] / predicted for name in ("ce_model", "ce_spliced", "ce_zero", "kl_spliced", "kl_zero")
    }
    ce_zero, kl_zero = (total.get(f"{name}_zero_everywhere", 0.0) / predicted for name in ("ce", "kl"))
    return Evaluation(
        site=method.site,
        tokens=int(tokens),
        predicted=predicted,
        mse=total["error"] / tokens / method.dictionary.d_in,
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
        saebench=None if saebench is None else SaeBenchMeasures(*saebench, ce_zero, kl_zero, sums["fired_rows"]),
        **per_token,
        **predictions,
    )
