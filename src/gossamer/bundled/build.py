"""Build the bundled model: corpus, tokenizer, weights, accuracy, dictionaries, card.

    python -m gossamer.bundled.build --out FOLDER [--seed 0] [--steps N] [--only model|dictionaries]

The same seed, torch version and number of threads (one, unless --threads says otherwise) give the same files.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2LMHeadModel, PreTrainedTokenizerFast

from gossamer.bundled.accuracy import accuracies
from gossamer.bundled.card import write_card
from gossamer.bundled.corpus import task_words, texts
from gossamer.bundled.dictionaries import build_dictionaries, kept
from gossamer.bundled.rows import batches
from gossamer.bundled.tokenizer import train_tokenizer
from gossamer.bundled.training import LanguageModelRecipe, new_model, train
from gossamer.errors import GossamerError, UsageError
from gossamer.files import read_json, write_json
from gossamer.model.language_model import LanguageModel
from gossamer.progress import progress_bars

TOKENIZER_TEXTS = 6000
PROMPTS = 500
# Accuracy is measured on prompts of another seed than the corpus (and on held-out ones alone).
MEASURED_SEED = 1
WATCH_EVERY = 100


def build_model(folder: Path, recipe: LanguageModelRecipe) -> dict[str, int]:
    """Train tokenizer and model and write both to `folder`; returns the facts of the run (seconds, parameters)."""
    tokenizer = train_tokenizer(texts(TOKENIZER_TEXTS, recipe.seed), task_words(), recipe.context)
    model = new_model(recipe, tokenizer)
    steps = batches(tokenizer, recipe.seed, batch=recipe.batch, longest=recipe.longest, first_steps=recipe.first_steps)

    def watch(step: int, loss: float) -> None:
        if step % WATCH_EVERY == 0:
            scores = accuracies(model, tokenizer, 100, MEASURED_SEED)
            print(f"step {step}  loss {loss:.3f}  " + "  ".join(f"{k} {v:.2f}" for k, v in scores.items()), flush=True)

    seconds = train(model, steps, recipe, watch)
    save(model, tokenizer, folder)
    return {"seconds": round(seconds), "parameters": model.num_parameters(), "vocabulary": len(tokenizer)}


def save(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the model in float16 with a configuration that asks for float32, in which it is meant to run."""
    model.half().save_pretrained(folder)
    # Written readable by its owner alone, while a package is read by whoever has it installed.
    (folder / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(folder)
    config = read_json(folder / "config.json")
    # The same function as the fused form used in training, under the name that every reader of GPT-2 knows.
    write_json(folder / "config.json", config | {"dtype": "float32", "activation_function": "gelu_new"})


def measure(folder: Path) -> dict[str, float]:
    """Held-out top-1 accuracy of the model as it lies in `folder`, for every bundled task."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    return accuracies(model, AutoTokenizer.from_pretrained(folder), PROMPTS, MEASURED_SEED)


def add_dictionaries(folder: Path, seed: int) -> dict[str, float]:
    """Train the dictionaries of the model in `folder`; returns the share of each logit difference that they keep."""
    dictionaries = build_dictionaries(folder, seed)
    return kept(LanguageModel.load(folder), dictionaries, PROMPTS, MEASURED_SEED)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status (0, 1 failure, 2 wrong request)."""
    parser = argparse.ArgumentParser(prog="python -m gossamer.bundled.build", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write; its name becomes the model's name")
    parser.add_argument("--seed", type=int, default=LanguageModelRecipe.seed)
    parser.add_argument("--steps", type=int, default=LanguageModelRecipe.steps)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=("model", "dictionaries"), help="one half of the work")
    options = parser.parse_args(arguments)
    try:
        with progress_bars():
            _run(options)
    except GossamerError as error:
        print(f"gossamer: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


def _run(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    folder: Path = options.out
    facts_file = folder / "build.json"
    if options.only != "dictionaries":
        if (folder / "model.safetensors").exists():
            raise UsageError(f"{folder}: expected no model there, found one; give a new folder")
        recipe = replace(LanguageModelRecipe(), seed=options.seed, steps=options.steps)
        facts = {"recipe": asdict(recipe), "threads": options.threads, "torch": torch.__version__}
        write_json(facts_file, facts | build_model(folder, recipe) | {"accuracy": measure(folder)})
    if options.only != "model":
        facts = read_json(facts_file)
        write_json(facts_file, facts | {"dictionaries": add_dictionaries(folder, options.seed)})
    write_card(folder, read_json(facts_file), PROMPTS)


if __name__ == "__main__":
    sys.exit(main())
