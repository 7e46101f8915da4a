"""More text of the kind a model knows: its own samples at temperature 1."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.errors import UsageError
from gossamer.files import read_json, write_json, write_text
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.progress import track
from gossamer.training.config import CorpusConfig
from gossamer.training.seeding import generator
from gossamer.training.text import bos_id, encode, read_texts


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
    if (folder / "settings.json").is_file() and read_json(folder / "settings.json") != settings:
        raise UsageError(f"{folder}: holds samples of other settings; use the same settings or another folder")
    write_json(folder / "settings.json", settings)
    shards = -(-config.sample_tokens // (config.sample_batch * config.context))
    found: list[str] = []
    for shard in track(range(shards), "sampling text", shards):
        path = folder / f"samples-{shard:05d}.jsonl"
        if not path.is_file():
            drawn = _shard(model, texts, config, seed, shard)
            write_text(path, "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in drawn))
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
    ids = torch.tensor([first + prefix for prefix in prefixes], device=model.device)
    rows = _continue(model, ids, config.context + len(first), draw)
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


@torch.no_grad()
def _continue(
    model: LanguageModel, ids: Int[Tensor, "batch pos"], length: int, draw: torch.Generator
) -> Int[Tensor, "batch length"]:
    """Rows grown to `length` tokens, drawn from the model's distribution with a key-value cache."""
    rows, new, past = ids, ids, None
    training = model.hf.training
    model.hf.eval()
    try:
        while rows.shape[1] < length:
            out = model.hf(input_ids=new, past_key_values=past, use_cache=True)
            past = out.past_key_values
            new = _draw(out.logits[:, -1], draw)
            rows = torch.cat([rows, new], dim=1)
    finally:
        model.hf.train(training)
    return rows


def _draw(logits: Float[Tensor, "batch vocab"], draw: torch.Generator) -> Int[Tensor, "batch one"]:
    """One token a row from softmax(logits): where a uniform number falls among the cumulated odds.

    The number comes from a CPU generator of its own, so that samples depend on nothing else; this is twice as fast as
    torch.multinomial on the CPU.
    """
    logits = logits.float()
    cumulated = (logits - logits.amax(dim=-1, keepdim=True)).exp().cumsum(dim=-1)
    uniform = torch.rand(len(logits), 1, generator=draw).to(logits.device)
    found = torch.searchsorted(cumulated, uniform * cumulated[:, -1:], right=True)
    return found.clamp(max=logits.shape[-1] - 1)


def _decode(model: LanguageModel, ids: list[int]) -> str:
    """Text up to the end-of-text token: what follows belongs to another text."""
    end = getattr(model.tokenizer, "eos_token_id", None)
    if end is not None and end in ids:
        ids = ids[: ids.index(end)]
    return str(model.tokenizer.decode(ids, skip_special_tokens=True))
