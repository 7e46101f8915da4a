"""Where the encoder should begin: at the decoder transposed, or at a fraction of it; on a real model, from one pass.

    python benchmarks/encoder_start.py [--model stories260k|tinytalk] [--tokens 1000000] [--seeds 2] [--quick]
        [--json]

BatchTopK and TopK dictionaries at a middle layer, alike but for `encoder_scale`; measured on held-out text: explained
variance, loss recovered (zero ablation), and the share of latents that are never active there. Each line compares a
scale (ours) with 1 (theirs), means over seeds.
"""

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from rows import Row, parser, row, show
from settings import REAL

from gossamer.activations.corpus import Corpus, split_texts
from gossamer.dictionary.encoding_method import EncodingMethod
from gossamer.model import LanguageModel, Site
from gossamer.replacement.evaluate import Evaluation, evaluate_methods
from gossamer.training import read_texts, recipe_for
from gossamer.training.config import DictionarySpec, FitConfig
from gossamer.training.fit import fit
from gossamer.training.objectives import TopK

FOLDERS = {"stories260k": "stories260k", "tinytalk": "tinytalk-3m-gpt2"}
SCALES = (1.0, 0.75, 0.5, 0.25)


def main() -> None:
    """Print the rows."""
    made = parser(__doc__, "50,000 tokens, one seed")
    made.add_argument("--model", default="stories260k", choices=list(FOLDERS))
    made.add_argument("--tokens", type=int, default=1_000_000, help="to learn from")
    made.add_argument("--seeds", type=int, default=2)
    options = made.parse_args()
    if options.quick:
        options.tokens, options.seeds = 50_000, 1
    show(rows(options), options.json)


def rows(options: argparse.Namespace) -> list[Row]:
    """Every scale beside 1."""
    measured = trained(options)
    result = []
    for kind in ("batchtopk", "topk"):
        for scale in SCALES[1:]:
            for what in ("explained_variance", "loss_recovered", "dead"):
                ours, theirs = (
                    statistics.mean(getattr(measured[kind, one, seed], what) for seed in range(options.seeds))
                    for one in (scale, 1.0)
                )
                better = ours <= theirs if what == "dead" else ours >= theirs
                name = f"{options.model}, {kind}, encoder at {scale:g} of the decoder"
                result.append(row(name, ours, theirs, what.replace("_", " "), "no worse", better))
    return result


def trained(options: argparse.Namespace) -> dict[tuple[str, float, int], Evaluation]:
    """All dictionaries, learned from the same activations, by objective, scale and seed."""
    model = LanguageModel.load(REAL / "models" / FOLDERS[options.model])
    config = recipe_for(model).config
    site = Site("resid_post", model.n_layers // 2)
    batch = replace(config.trainer, sensitivity=0.0)
    trainers = {"batchtopk": batch, "topk": replace(batch, objective=TopK(k=batch.objective.k))}
    plans = {
        (kind, scale, seed): DictionarySpec(
            f"{kind} {scale} {seed}", site, None, replace(trainer, encoder_scale=scale), seed
        )
        for kind, trainer in trainers.items()
        for scale in SCALES
        for seed in range(options.seeds)
    }
    texts = read_texts(REAL / "text" / "tinystories_train.jsonl")
    corpus = Corpus.build(model, *split_texts(texts, config.corpus, 0), config.corpus, 0)
    loop = FitConfig(tokens=options.tokens, reuse=config.fit.reuse)
    with tempfile.TemporaryDirectory() as folder:
        found = fit(model, corpus, list(plans.values()), loop, Path(folder), 0)
    methods = {key: EncodingMethod(found[plan.name], found[plan.name].encode) for key, plan in plans.items()}
    return evaluate_methods(model, methods, corpus.held_out[:128])


if __name__ == "__main__":
    main()
