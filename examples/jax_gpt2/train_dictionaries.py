"""The torch side, run once: train small dictionaries for the model with gossamer, and save them as a DictionarySet."""

import argparse
import json
from pathlib import Path

import torch

from gossamer import DictionarySet, LanguageModel, Site
from gossamer.training import DictionarySpec, DictionaryTrainerConfig, FitConfig, fit_tensors
from gossamer.training.objectives import BatchTopK

CONTEXT = 128


def train(
    model: LanguageModel, texts: list[str], layers: list[int], folder: Path, *, latents: int, k: int, tokens: int
) -> DictionarySet:
    """Dictionaries of the residual stream after `layers`, on `tokens` tokens drawn from `texts`."""
    sites = [Site("resid_post", layer) for layer in layers]
    parts: dict[Site, list[torch.Tensor]] = {site: [] for site in sites}
    for start in range(0, len(texts), 16):
        batch = model.tokenize(texts[start : start + 16]).cut(CONTEXT)
        with torch.no_grad():
            streams = model.capture(batch, sites)
        for site in sites:
            parts[site].append(streams[site][batch.mask])
    activations = {site: torch.cat(found) for site, found in parts.items()}
    trainer = DictionaryTrainerConfig(n_latents=latents, objective=BatchTopK(k=k), sensitivity=0.0)
    plans = [DictionarySpec(str(site), site, trainer=trainer) for site in sites]
    fit = FitConfig(tokens=tokens)
    found = fit_tensors(activations, plans, fit, folder / "training", model_name=model.name)
    dictionaries = DictionarySet(found.values())
    dictionaries.save(folder / "dictionaries")
    return dictionaries


def main() -> None:
    """Read the arguments, train, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="folder of the model")
    parser.add_argument("--text", type=Path, required=True, help='JSON lines with a "text"')
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", default="1,3,5")
    parser.add_argument("--latents", type=int, default=1024)
    parser.add_argument("--k", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=400_000)
    given = parser.parse_args()
    texts = [json.loads(line)["text"] for line in given.text.read_text().splitlines()]
    layers = [int(layer) for layer in given.layers.split(",")]
    model = LanguageModel.load(given.model)
    train(model, texts, layers, given.out, latents=given.latents, k=given.k, tokens=given.tokens)


if __name__ == "__main__":
    main()
