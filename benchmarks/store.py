"""A feature store beside passes over batches of latents: latents a second, bytes an activation, time of a question.

    python benchmarks/store.py [--model bundled:spool] [--text FILE] [--tokens 200000] [--latents 2048] [--l0 32]
                               [--sites 6] [--sae-dashboard PYTHON] [--quick] [--json]
    python benchmarks/store.py --growth FIGURE.png [--model bundled:spool] [--text FILE]

Dictionaries are random, with a threshold that gives them their L0 on the text: what a store costs depends on no more.
Seconds of latents a second are CPU seconds, on both sides: what else runs on the machine does not count.

- Latents a second: `build_store` to a local folder, all of it (activations in two orders, statistics, examples, words,
  neighbours), beside SAEDashboard 0.8.0 itself, where `--sae-dashboard` names the Python of an environment that has it
  (a GPT-2 of a local folder only, whose weights TransformerLens takes as they are): as its runner for Neuronpedia does
  it, 128 latents at a time, the model's activations cached on disk by the first batch; on as many tokens, of one site,
  one thread. Its first batches are timed and the others of the site reckoned; it writes nothing.
- The same beside our own loop after its description: for every 64 latents the model goes over the text again, these
  latents are encoded at every token, and density, histogram, quantiles, the 20 strongest windows and quantile groups
  are taken of them. It writes nothing. Three batches of latents are timed and the rest reckoned; once with the model's
  pass, once with activations that are held in memory (the model's pass left out).
- Bytes an activation: both orders and the tokens, beside one unsorted Parquet file of the same columns as pyarrow
  writes it by default.
- Milliseconds a question: all tokens of a latent and all latents of a token, each beside the same question put to the
  table of the other order; medians of 20.

With --growth instead: seconds and bytes of a store of one site, as tokens, latents and L0 grow one by one from 10,000,
512 and 8, and a figure of that.
"""

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import torch
from growth import draw, grown, growth_rows
from rows import Row, parser, row, say, show
from torch import Tensor

from gossamer import LanguageModel
from gossamer.activations import DocumentRows, RowConfig, read_texts
from gossamer.activations.text import encode
from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.model import Site
from gossamer.store import FeatureStore, StoreSettings, build_store

AT_A_TIME, TIMED, TOP = 64, 3, 20
PEER_BATCHES = 3
CONTEXT = 64


def main() -> None:
    """Print the rows."""
    made = parser(__doc__, "20,000 tokens, 256 latents at 2 sites")
    made.add_argument("--model", default="bundled:spool")
    made.add_argument("--text", help="default: random tokens of the model")
    made.add_argument("--tokens", type=int, default=200_000)
    made.add_argument("--latents", type=int, default=2048)
    made.add_argument("--l0", type=int, default=32)
    made.add_argument("--sites", type=int, default=6)
    made.add_argument("--sae-dashboard", help="the Python of an environment with sae-dashboard 0.8.0")
    made.add_argument("--growth", type=Path, metavar="FIGURE.png", help="how the cost grows instead, and its figure")
    options = made.parse_args()
    if options.growth is not None:
        show(growth(options), options.json)
        return
    if options.quick:
        options.tokens, options.latents, options.sites = 20_000, 256, 2
    show(rows(options), options.json)


def rows(options: argparse.Namespace) -> list[Row]:
    """Ours beside theirs."""
    model = LanguageModel.load(options.model)
    texts, read, dictionaries = inputs(model, options)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        settings = StoreSettings(context=CONTEXT, bos=False)
        manifest = build_store(model, dictionaries, texts, folder, settings=settings)
        seconds = time.process_time() - start
        latents = options.latents * len(dictionaries)
        say(
            f"{manifest.tokens:,} tokens, {manifest.entries:,} activations of {latents:,} latents at "
            f"{len(dictionaries)} sites in {seconds:.1f} CPU seconds",
            options.json,
        )
        ours = latents / seconds
        again, held = (rate(model, read, dictionaries, held=held) for held in (False, True))
        found = [
            row(
                "latents a second, beside our loop, the model run for every 64",
                ours,
                again,
                "latents/s",
                ">= 10x",
                ours >= 10 * again,
            ),
            row(
                "latents a second, beside our loop, activations held in memory",
                ours,
                held,
                "latents/s",
                "reported",
                True,
            ),
        ]
        with FeatureStore(folder) as store:
            if options.sae_dashboard is not None:
                found.insert(0, beside_sae_dashboard(store, model, read, dictionaries, ours, options))
            return [*found, size(store), *questions(store)]


def inputs(model: LanguageModel, options: argparse.Namespace) -> tuple[list[str], DocumentRows, dict[Site, Dictionary]]:
    """Texts, their rows, and dictionaries of the last sites."""
    texts = corpus(model, options)
    read = DocumentRows.of(model, texts, RowConfig(context=CONTEXT, bos=0.0))
    kinds = [Site(kind, layer) for layer in range(model.n_layers) for kind in ("attn_out", "mlp_out", "resid_post")]
    return texts, read, {site: dictionary(model, read, site, options) for site in kinds[-options.sites :]}


def growth(options: argparse.Namespace) -> list[Row]:
    """How the cost of a store of one site grows with each size."""
    model = LanguageModel.load(options.model)
    base = argparse.Namespace(**{**vars(options), "sites": 1, "tokens": 10_000, "latents": 512, "l0": 8})
    factors = (1, 2) if options.quick else (1, 2, 4, 8)
    sizes = {name: [getattr(base, name) * factor for factor in factors] for name in ("tokens", "latents", "l0")}
    found = grown(base, sizes, lambda one: store_cost(model, one))
    units = {"seconds": "s", "bytes": "bytes"}
    draw(found, units, options.growth)
    return growth_rows(found, "a store of one site", units)


def store_cost(model: LanguageModel, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of this process for all of a store, and its bytes."""
    texts, _, dictionaries = inputs(model, options)
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        manifest = build_store(model, dictionaries, texts, folder, settings=StoreSettings(context=CONTEXT, bos=False))
        seconds = time.process_time() - began
    return {"seconds": seconds, "bytes": float(sum(file.size for file in manifest.files.values()))}


def corpus(model: LanguageModel, options: argparse.Namespace) -> list[str]:
    """Texts of about so many tokens."""
    if options.text is not None:
        texts, tokens = [], 0
        for text in read_texts(options.text):
            texts.append(text)
            tokens += len(encode(model, text))
            if tokens >= options.tokens:
                break
        return texts
    draw = random.Random(0)
    words = sorted({model.word(token) for token in range(model.d_vocab)} - {""})
    return ["".join(draw.choices(words, k=200)) for _ in range(options.tokens // 200)]


def dictionary(model: LanguageModel, read: DocumentRows, site: Site, options: argparse.Namespace) -> Dictionary:
    """A random dictionary of a site whose threshold gives it its L0 there."""
    torch.manual_seed(site.layer or 0)
    width = model.width(site)
    made = Dictionary(DictionaryConfig("batchtopk", width, options.latents, site=site, k=options.l0))
    for parameter in made.parameters():
        parameter.data = torch.zeros_like(parameter)
    made.W_dec.data = torch.nn.functional.normalize(torch.randn(options.latents, width), dim=1)
    made.W_enc.data = made.W_dec.data.T
    x = model.capture(read[:32], [site])[site][read.mask[:32]]
    levels = (x @ made.W_enc).flatten()
    assert made.threshold is not None
    made.threshold.data = levels.kthvalue(round(levels.numel() * (1 - options.l0 / options.latents))).values.clamp(
        min=1e-6
    )
    return made.requires_grad_(False)


def rate(model: LanguageModel, read: DocumentRows, dictionaries: dict[Site, Dictionary], *, held: bool) -> float:
    """Latents a second by passes over batches of latents, of one site after another."""
    site, made = next(iter(dictionaries.items()))
    kept = capture(model, read, site) if held else None
    start = time.process_time()
    for number in range(TIMED):
        columns = torch.arange(number * AT_A_TIME, (number + 1) * AT_A_TIME) % made.n_latents
        x = capture(model, read, site) if kept is None else kept
        values = torch.cat([made.encode_dense(part, columns) for part in x.split(8192)])
        for latent in range(AT_A_TIME):
            described(values[:, latent], read.ids[read.mask])
    return TIMED * AT_A_TIME / (time.process_time() - start)


def beside_sae_dashboard(
    store: FeatureStore,
    model: LanguageModel,
    read: DocumentRows,
    dictionaries: dict[Site, Dictionary],
    ours: float,
    options: argparse.Namespace,
) -> Row:
    """Latents a second of SAEDashboard on a site of the same model and dictionary, at as many tokens."""
    site, made = next(iter(dictionaries.items()))
    ids = read.ids[read.mask]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model").symlink_to(Path(options.model).resolve())
        made.save(folder / "dictionary")
        np.save(folder / "tokens.npy", ids[: len(ids) // CONTEXT * CONTEXT].reshape(-1, CONTEXT).numpy())
        request = {"site": site.transformer_lens, "batches": min(PEER_BATCHES, made.n_latents // 128)}
        (folder / "request.json").write_text(json.dumps(request))
        program = "import pathlib, sys, sae_dashboard_peer as peer; peer.main(pathlib.Path(sys.argv[1]))"
        command = [options.sae_dashboard, "-c", program, str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        subprocess.run(command, cwd=Path(__file__).parent, env=environment, check=True, stdout=subprocess.DEVNULL)
        found = json.loads((folder / "found.json").read_text())
    first, *others = found["seconds"]
    seconds = first + statistics.mean(others) * (made.n_latents / found["at_a_time"] - 1)
    # It did the same work: latents are active on the same shares of the tokens, but for where its rows begin.
    known = store.sql(f"SELECT latent, density FROM statistics WHERE site = '{site}'").to_pylist()
    densities = {row["latent"]: row["density"] for row in known}
    pairs = [(density, densities[int(latent)]) for latent, density in found["density"].items()]
    shares = " and ".join(f"{statistics.mean(side):.4%}" for side in zip(*pairs, strict=True))
    batches = ", ".join(f"{one:.1f}" for one in found["seconds"])
    say(f"SAEDashboard: batches of {batches} s; mean density there and here {shares}", options.json)
    theirs = made.n_latents / seconds
    return row("latents a second, beside SAEDashboard 0.8.0", ours, theirs, "latents/s", ">= 10x", ours >= 10 * theirs)


def capture(model: LanguageModel, read: DocumentRows, site: Site) -> Tensor:
    """Activations of all tokens at a site."""
    parts = [read[start : start + 16] for start in range(0, len(read), 16)]
    with torch.no_grad():
        return torch.cat([model.capture(part, [site])[site][part.mask] for part in parts])


def described(values: Tensor, ids: Tensor) -> dict[str, Any]:
    """What a dashboard shows of one latent, from its activation at every token."""
    active = values[values > 0]
    if not len(active):
        return {}
    places = values.topk(min(TOP, len(values))).indices
    around = (places[:, None] + torch.arange(-32, 17)).clamp(0, len(values) - 1)
    bounds = torch.linspace(0, float(active.max()), 11)
    groups = [((values > low) & (values <= high)).nonzero()[:5, 0] for low, high in pairwise(bounds)]
    return {
        "density": len(active) / len(values),
        "histogram": torch.histc(active, 50).tolist(),
        "quantiles": active.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist() if len(active) < 2**24 else [],
        "windows": (ids[around].tolist(), values[around].tolist()),
        "groups": [group.tolist() for group in groups],
    }


def size(store: FeatureStore) -> Row:
    """Bytes an activation: both orders and the tokens beside one plain file."""
    manifest = store.manifest
    ours = sum(file.size for shard in manifest.shards for file in shard.files.values()) / manifest.entries
    table = store.sql("SELECT site, latent, document, position, token, value FROM by_token", limit=None)
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink)
    theirs = len(sink.getvalue()) / manifest.entries
    return row(
        "bytes an activation, two orders beside one plain file", ours, theirs, "bytes", "<= 2x", ours <= 2 * theirs
    )


def questions(store: FeatureStore) -> list[Row]:
    """Milliseconds of both questions, in the order that is made for each and in the other."""
    sites, draw = list(store.manifest.dictionaries), random.Random(0)
    counts = store.sql("SELECT token, count(*) AS n FROM tokens GROUP BY token ORDER BY n DESC")["token"].to_pylist()
    latents = [(draw.choice(sites), draw.randrange(store.manifest.dictionaries[sites[0]].n_latents)) for _ in range(20)]
    asked = {
        "all tokens of a latent": [f"site = '{site}' AND latent = {latent}" for site, latent in latents],
        "all latents of a token": [f"token = {token}" for token in draw.choices(counts[: len(counts) // 2], k=20)],
    }
    found = []
    for (what, conditions), (own, other) in zip(
        asked.items(), (("by_latent", "by_token"), ("by_token", "by_latent")), strict=True
    ):
        ours, theirs = (
            statistics.median(
                milliseconds(lambda c=c, t=t: store.sql(f"SELECT * FROM {t} WHERE {c}")) for c in conditions
            )
            for t in (own, other)
        )
        found.append(row(f"{what}, beside the other order", ours, theirs, "ms", "<= 1x", ours <= theirs))
    return found


def milliseconds(work: Callable[[], Any]) -> float:
    """Of one call."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
