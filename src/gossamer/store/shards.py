"""One shard: what all latents of all sites did on some rows, as Parquet tables in two orders.

`by_latent` is sorted by (site, latent, document, position), `by_token` by (token, document, position, site, latent),
and `tokens` says which token stands where. Row groups are small, so that their statistics leave a reader few of them:
all tokens of a latent lie together in the first table, all latents of a token, here or anywhere, in the second.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Integer

from gossamer.activations.stream import ActivationBatch, ActivationStream
from gossamer.files import needed
from gossamer.finite import require_finite
from gossamer.model.site import Site
from gossamer.store.location import EXTRA
from gossamer.store.parquet import parquet_bytes
from gossamer.store.source import StoreSource


@dataclass(frozen=True)
class _Entries:
    """Activations of one site: the place of each token in the shard's rows laid end to end, latent and value."""

    places: Int[np.ndarray, "entries"]
    latents: Int[np.ndarray, "entries"]
    values: Float[np.ndarray, "entries"]

    def take(self, order: Int[np.ndarray, "entries"]) -> "_Entries":
        return _Entries(self.places[order], self.latents[order], self.values[order])


def shard_tables(source: StoreSource) -> tuple[int, dict[str, bytes]]:
    """The number of activations on a source's rows, which are a shard's, and the shard's three tables as files.

    The same rows give the same bytes: batches begin anew with every shard. Memory: about 60 bytes an activation.

    Raises:
        NotFiniteError: an activation is not finite (the site is named).
    """
    arrow = needed("pyarrow", "a feature store", EXTRA)
    by_site = _encoded(source)
    by_site = {site: found.take(_stable(found.latents)) for site, found in by_site.items()}
    rows = source.rows
    tokens = {
        "document": rows.documents[:, None].expand_as(rows.ids).reshape(-1).int().numpy(),
        "position": rows.positions.reshape(-1).int().numpy(),
        "token": rows.ids.reshape(-1).int().numpy(),
    }
    sites, joined = list(by_site), _joined(list(by_site.values()))
    numbers = np.repeat(np.arange(len(sites), dtype=np.int16), [len(one.places) for one in by_site.values()])
    # Ranks of tokens by (token, place): one stable sort by them keeps the order of sites and latents within a token.
    real = np.flatnonzero(rows.mask.reshape(-1).numpy())
    rank = np.zeros(rows.mask.numel(), dtype=np.min_scalar_type(len(real)))
    rank[real[_stable(tokens["token"][real])]] = np.arange(len(real))
    again = _stable(rank[joined.places])
    counted = source.counted.reshape(-1).cpu().numpy()
    return len(joined.places), {
        "by_latent": _entry_table(sites, numbers, joined, tokens, _BY_LATENT),
        "by_token": _entry_table(sites, numbers[again], joined.take(again), tokens, _BY_TOKEN),
        "tokens": parquet_bytes(
            arrow.table({**{name: column[real] for name, column in tokens.items()}, "counted": counted[real]}),
            dict.fromkeys(tokens, "DELTA_BINARY_PACKED"),
        ),
    }


# How columns are encoded: what ascends by its differences, what repeats in a dictionary, floats byte by byte.
_BY_LATENT = {
    "latent": "DELTA_BINARY_PACKED",
    "document": "DELTA_BINARY_PACKED",
    "position": "DELTA_BINARY_PACKED",
    "value": "BYTE_STREAM_SPLIT",
}
_BY_TOKEN = {"latent": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"}


def _encoded(source: StoreSource) -> dict[Site, _Entries]:
    """The activations of every site, token by token."""
    width, threshold = source.rows.ids.shape[1], source.settings.threshold

    def encode(batch: ActivationBatch) -> dict[Site, _Entries]:
        places = batch.mask.cpu().reshape(-1).nonzero()[:, 0] + batch.rows.start * width
        found = {}
        for site, dictionary in source.dictionaries.items():
            latents = dictionary.encode(batch.counted(site).to(dictionary.W_dec.device)).to("cpu")
            values = require_finite(latents.activations, f"latents of {site}").float()
            kept = values > threshold
            found[site] = _Entries(
                places[latents.tokens[kept]].numpy(), latents.latents[kept].int().numpy(), values[kept].numpy()
            )
        return found

    stream = ActivationStream(
        source.model,
        source.rows,
        list(source.dictionaries),
        mask=source.counted,
        batch_size=source.batch_size,
    )
    with torch.no_grad():
        parts = stream.map(encode)
    return {site: _joined([part[site] for part in parts]) for site in source.dictionaries}


def _joined(parts: list[_Entries]) -> _Entries:
    return _Entries(
        *(np.concatenate([getattr(one, name) for one in parts]) for name in ("places", "latents", "values"))
    )


def _stable(keys: Integer[np.ndarray, "entries"]) -> Int[np.ndarray, "entries"]:
    """What sorts the keys; equal ones stay in order."""
    # numpy sorts numbers of 16 bits by their digits, ten times as fast.
    narrow = keys.astype(np.min_scalar_type(int(keys.max()))) if len(keys) else keys
    return np.argsort(narrow, kind="stable")


def _entry_table(
    sites: list[Site],
    numbers: Int[np.ndarray, "entries"],
    entries: _Entries,
    tokens: Mapping[str, np.ndarray],
    encodings: dict[str, str],
) -> bytes:
    arrow = needed("pyarrow", "a feature store", EXTRA)
    site = arrow.DictionaryArray.from_arrays(arrow.array(numbers), arrow.array([str(one) for one in sites]))
    columns = {
        "site": site,
        "latent": entries.latents,
        **{name: column[entries.places] for name, column in tokens.items()},
        "value": entries.values,
    }
    return parquet_bytes(arrow.table(columns), encodings)
