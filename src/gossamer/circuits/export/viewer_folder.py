"""A folder that circuit-tracer's server shows: the graph, the list of graphs, and what is known of its features.

    SLUG.json                   the graph
    graph-metadata.json         {"graphs": [its metadata]}
    features/index.json.gz      by layer: the name of its file, and where each feature begins in it
    features/layer_L.bin        a feature after another: four bytes of length (little-endian), JSON compressed by zlib

Shown by `circuit-tracer start-server --graph_file_dir FOLDER --features_dir FOLDER/features`. Its page fetches features
from that folder, and not from the hub, where the name of the model begins with a slash. Source:
github.com/decoderesearch/circuit-tracer, `frontend/local_server.py`, `frontend/assets/feature_examples`.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gossamer.circuits.export.attribution_graph import save_attribution_graph
from gossamer.circuits.export.numbering import Numbering
from gossamer.features.feature_card import FeatureCard, FeatureExample
from gossamer.files import atomic_write, write_json


def save_viewer_folder(folder: str | Path, graph: Mapping[str, Any], cards: Iterable[FeatureCard] = ()) -> Path:
    """Write `graph` and what `cards` say of its features for circuit-tracer's server; returns the folder.

    Args:
        folder: made if missing; it holds one graph.
        graph: of :func:`to_attribution_graph`.
        cards: of features of the graph's sites, each once; those that have none are shown without examples. Errors have
            no page there: theirs are left out.

    Raises:
        UsageError: a card of a feature that is none of the graph's, or nothing can be written there.
        GossamerError: the graph is not valid, or writing failed.
    """
    target, metadata = Path(folder), graph["metadata"]
    metadata = {**metadata, "scan": f"/{metadata['scan']}"}
    save_attribution_graph(target / f"{metadata['slug']}.json", {**graph, "metadata": metadata})
    numbering = Numbering.from_json(metadata["gossamer"]["sites"])
    by_layer: dict[int, dict[int, bytes]] = {}
    for card in (one for one in cards if not one.feature.is_error):
        layer, number = numbering.number(card.feature)
        content = {"transcoder_id": metadata["scan"], "index": number, **_shown(card)}
        by_layer.setdefault(layer, {})[number] = _record(content)
    layers = range(max(by_layer, default=-1) + 1)
    index = [_write_layer(target / "features", layer, by_layer.get(layer, {})) for layer in layers]
    with atomic_write(target / "features" / "index.json.gz") as temporary:
        temporary.write_bytes(gzip.compress(json.dumps(index).encode(), mtime=0))
    write_json(target / "graph-metadata.json", {"graphs": [metadata]})
    return target


def _record(content: Mapping[str, Any]) -> bytes:
    packed = zlib.compress(json.dumps(content, allow_nan=False).encode())
    return len(packed).to_bytes(4, "little") + packed


def _write_layer(folder: Path, layer: int, records: Mapping[int, bytes]) -> dict[str, Any]:
    """Write the features of a layer; returns its entry of the index, with an empty place for each that has none."""
    name, offsets, end = f"layer_{layer}.bin", [0], 0
    if not records:
        return {"filename": "", "offsets": []}
    for number in range(max(records) + 1):
        end += len(records.get(number, b""))
        offsets.append(end)
    with atomic_write(folder / name) as temporary:
        temporary.write_bytes(b"".join(records[number] for number in sorted(records)))
    return {"filename": name, "offsets": offsets}


def _shown(card: FeatureCard) -> dict[str, Any]:
    """What the page shows of a feature."""
    groups = {"Top activations": card.examples}
    for example in card.strata:
        groups[f"Quantile group {example.stratum}"] = (*groups.get(f"Quantile group {example.stratum}", ()), example)
    return {
        "examples_quantiles": [
            {"quantile_name": name, "examples": list(map(_example, examples))}
            for name, examples in groups.items()
            if examples
        ],
        "top_logits": [word for word, _ in card.promotes],
        "bottom_logits": [word for word, _ in card.suppresses],
        "act_min": 0.0,
        "act_max": card.maximum,
        "activation_frequency": card.density,
    }


def _example(example: FeatureExample) -> dict[str, Any]:
    return {
        "tokens": list(example.tokens),
        "tokens_acts_list": list(example.activations),
        "train_token_ind": example.position,
        "is_repeated_datapoint": False,
    }
