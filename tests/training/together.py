"""Train under `torchrun`, or alone: `python together.py FOLDER`. Two gloo processes must end where one does."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "training")]

import torch  # noqa: E402
from training_fixtures import CONFIG, plans, texts, with_fit  # noqa: E402
from word_model import tiny_gpt2_model, word_tokenizer  # noqa: E402

from gossamer.activations.corpus import Corpus, split_texts  # noqa: E402
from gossamer.model import LanguageModel, Site  # noqa: E402
from gossamer.training.dead_latents import Resampling  # noqa: E402
from gossamer.training.fit import fit, fit_tensors  # noqa: E402
from gossamer.training.objectives import AuxK, BatchTopK, TopK  # noqa: E402
from gossamer.training.parallel import joined  # noqa: E402

SITE = Site("resid_post", 1)
OBJECTIVES = {"topk": TopK(k=6, aux=AuxK(k=8)), "batchtopk": BatchTopK(k=6, aux=AuxK(k=8))}
# Whatever does not fire in a batch is dead, so that it must be known together, in a width in which some do not.
WIDE = {"n_latents": 256, "sensitivity": 0.0, "dead_after": 1}


def main(folder):
    """Dictionaries by TopK and BatchTopK, from the model, from a cache and from tensors."""
    tokenizer = word_tokenizer()
    model = LanguageModel.load(tiny_gpt2_model(tokenizer), tokenizer=tokenizer)
    corpus = Corpus.build(model, *split_texts(texts(), CONFIG.corpus, seed=0), CONFIG.corpus, seed=0)
    config = with_fit(tokens=64 * 24, cache_dtype="float32")
    both = [
        plan.__class__(name, SITE, None, plan.trainer, 0)
        for name, objective in OBJECTIVES.items()
        for plan in plans([SITE], objective=objective, **WIDE)
    ]
    resampled = plans([SITE], dead_latents=Resampling(at=(0.5,), recovery=4), **WIDE)
    fit(model, corpus, both, config, folder / "on-the-fly", seed=0)
    if (folder / "cache").exists():
        fit(model, corpus, both, config, folder / "cached", seed=0, cache=folder / "cache")
    x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    fit_tensors({SITE: x}, [*both, *resampled], config, folder / "tensors")


if __name__ == "__main__":
    with joined("cpu"):
        main(Path(sys.argv[1]))
