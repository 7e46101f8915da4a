"""More text of the kind a model knows: its own samples at temperature 1."""

from collections.abc import Sequence
from pathlib import Path

import torch

from gossamer.activations.text import bos_id, encode, read_texts
from gossamer.errors import UsageError
from gossamer.files import write_json_lines
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.progress import track
from gossamer.results import Older, Record, record_format, versions
from gossamer.seeding import generator
from gossamer.tokens import Tokens
from gossamer.training.config import CorpusConfig

SETTINGS = "settings.json"
FORMAT = record_format(
    "gossamer.samples",
    1,
    dict,
    "the settings of samples",
    {"": Older(lambda body: {"settings": body}, checksum=False)},
)


def sample_text(model: LanguageModel, texts: Sequence[str], config: CorpusConfig, folder: Path, seed: int) -> list[str]:
    """About `config.sample_tokens` tokens of samples, each continuing the beginning of a text (or BOS alone).

    Every `sample_batch` samples are one file in `folder`; files that are there already are read, not drawn again, and
    file 7 is the same whether or not the others exist. Memory: the keys and values of one batch.

    Raises:
        UsageError: no texts to begin with, or the folder holds samples of other settings.
        GossamerError: a file is damaged.
    """
    if config.sample_tokens == 0:
        return []
    if not texts:
        raise UsageError("sampling needs texts to begin with, found none; give some text")
    settings = {"model": model.name, "seed": seed, "context": config.context}
    settings |= {
        "weights_sha256": weights_sha256(model.hf),
        "prefix": config.sample_prefix,
        "batch": config.sample_batch,
    }
    path = folder / SETTINGS
    if path.is_file() and FORMAT.load(path).settings != settings:
        raise UsageError(f"{folder}: holds samples of other settings; use the same settings or another folder")
    if not path.is_file():
        FORMAT.save(path, Record(settings, provenance={"versions": versions()}))
    shards = -(-config.sample_tokens // (config.sample_batch * config.context))
    found: list[str] = []
    for shard in track(range(shards), "sampling text", shards):
        path = folder / f"samples-{shard:05d}.jsonl"
        if not path.is_file():
            drawn = _shard(model, texts, config, seed, shard)
            write_json_lines(path, ({"text": text} for text in drawn))
        found += read_texts(path)
    return found


def _shard(model: LanguageModel, texts: Sequence[str], config: CorpusConfig, seed: int, shard: int) -> list[str]:
    """One batch of samples; all prefixes of a batch have one length, so that nothing is padded."""
    draw = generator(seed, "samples", shard)
    bos = bos_id(model)
    shortest = 0 if bos is not None else 1
    length = int(torch.randint(shortest, config.sample_prefix + 1, (), generator=draw))
    prefixes = [_prefix(model, texts, length, draw) for _ in range(config.sample_batch)]
    first = [] if bos is None else [bos]
    ids = torch.tensor([first + prefix for prefix in prefixes])
    new = config.context + len(first) - ids.shape[1]
    rows = model.generate(Tokens.full(ids), max_new_tokens=new, temperature=1.0, seed=draw, stop=()).whole.ids
    return [_decode(model, row[len(first) :]) for row in rows.tolist()]


def _prefix(model: LanguageModel, texts: Sequence[str], length: int, draw: torch.Generator) -> list[int]:
    if length == 0:
        return []
    while True:
        text = texts[int(torch.randint(len(texts), (), generator=draw))]
        # A token is rarely more than 16 characters; encoding the whole text would take most of the time.
        ids = encode(model, text[: 16 * length])
        if len(ids) >= length:
            return ids[:length]


def _decode(model: LanguageModel, ids: list[int]) -> str:
    """Text up to the end-of-text token: what follows belongs to another text."""
    end = getattr(model.tokenizer, "eos_token_id", None)
    if end is not None and end in ids:
        ids = ids[: ids.index(end)]
    return str(model.tokenizer.decode(ids, skip_special_tokens=True))
