"""What a short end-to-end fine-tuning gives dictionaries: cross-entropy on text, indirect objects it never saw.

    python benchmarks/end_to_end.py [--model FOLDER] [-d FOLDER] [--text FILE] [--held-out FILE] [--tokens N]
        [--share 0.25] [--k 64] [--similar-words 64] [--out DIR] [--quick] [--json]

Dictionaries that were only fitted (-d; default: a million tokens at the recipe's sites, trained first) are fine-tuned
once on text, once on text with prompts of indirect object identification, and once with such prompts of which half say
other words in place of the names. The task is tested on names and templates that no prompt of the fine-tuning has;
cross-entropy on other text. Each line has the dictionaries after it (ours) beside those before (theirs), errors
dropped. The fine-tuning takes 5 % of the tokens of the fit, unless --tokens says otherwise. With --k the dictionaries
are fitted with so many active latents a token, which changes both columns. With --out, what is finished there is read,
and what was stopped goes on.
"""

import argparse
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rows import Row, parser, row, say, show
from settings import REAL

from gossamer.activations.corpus import DocumentRows, RowConfig
from gossamer.circuits.evaluate.kept_task import KeptTask, kept_task
from gossamer.circuits.study import Study, StudySettings
from gossamer.dictionary import DictionarySet
from gossamer.model import LanguageModel
from gossamer.replacement.evaluate.quality import quality
from gossamer.tasks import Task, get
from gossamer.tasks.lexicon import NAMES
from gossamer.training import (
    TaskPrompts,
    TrainingConfig,
    finetune_dictionaries,
    read_texts,
    recipe_for,
    train_dictionaries,
)
from gossamer.training.finished import rows_like
from gossamer.training.objectives import BatchTopK
from gossamer.training.recipes import end_to_end
from gossamer.training.task_prompts import similar_words

LEARNED = ("fun_gave", "went_gave", "when_gave", "met_handed")
TESTED = ("met_said", "saw_showed")
LEAST_KEPT, MOST_KL, GAP_LEFT = 0.90, 0.10, 0.5
# Rows of held-out text, and prompts that are made (half of them are tested).
ROWS, PROMPTS = 100, 256


def main() -> None:
    """Print the rows."""
    made = parser(__doc__, "20,000 tokens to fit on, 2,048 to fine-tune on, 64 prompts; the same targets")
    made.add_argument("--model", default=str(REAL / "models" / "tinytalk-3m-gpt2"))
    made.add_argument("-d", "--dictionaries", help="a folder of dictionaries that were fitted and not fine-tuned")
    made.add_argument("--text", default=str(REAL / "text" / "tinystories_train.jsonl"), help="to learn from")
    made.add_argument("--held-out", default=str(REAL / "text" / "tinystories_val.jsonl"), help="to measure on")
    made.add_argument("--tokens", type=int, help="of the fine-tuning")
    made.add_argument("--share", type=float, default=0.25, help="of it that prompts make up, where there are any")
    made.add_argument("--k", type=int, help="active latents a token, of the fit")
    made.add_argument("--similar-words", type=int, default=64, help="how many other words stand in for names")
    made.add_argument("--out", type=Path, help="where dictionaries stay; default: nowhere")
    options = made.parse_args()
    # Words that are no single token are left out of the names.
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        show(list(rows(options, options.out or Path(scratch))), options.json)


def rows(options: argparse.Namespace, out: Path) -> Iterator[Row]:
    """Before and after, on text alone and with prompts."""
    model = LanguageModel.load(options.model)
    texts = read_texts(options.text)
    # The fine-tuning's order of texts is another one than the fit's.
    config = replace(recipe_for(model).config, seed=1)
    config = replace(config, fit=replace(config.fit, tokens=20_000 if options.quick else 1_000_000))
    if options.k is not None:
        config = replace(config, trainer=replace(config.trainer, objective=BatchTopK(k=options.k)))
    given = fitted(model, texts, config, options, out)
    tuned = end_to_end(config, model.d_model)
    tokens = options.tokens or (2_048 if options.quick else tuned.tokens)
    tuned = replace(tuned, tokens=tokens, prompt_share=options.share)
    config = replace(config, finetune=tuned, corpus=rows_like(given, model, config.corpus))
    count = 64 if options.quick else PROMPTS
    learned, tested = task(model, NAMES[::2], LEARNED, 2 * count), task(model, NAMES[1::2], TESTED, count)
    text = DocumentRows.of(
        model, read_texts(options.held_out)[:ROWS], RowConfig(config.corpus.context, config.corpus.bos)
    )
    text = text[: 20 if options.quick else ROWS]
    before = measured(model, given, text, tested)
    said, held = TaskPrompts.of([learned]), set(answers(tested))
    others = similar_words(model, [learned], options.similar_words, without=held)
    each = {"text": None, "text and prompts": said, "text and varied prompts": said.varied(others)}
    for name, prompts in each.items():
        where = out / name.replace(" ", "-")
        found = measured(
            model, finetune_dictionaries(model, given, texts, config, where, prompts=prompts), text, tested
        )
        yield from compared(f"{model.title}, {tokens:,} tokens of {name}", found, before, options.json)


def fitted(
    model: LanguageModel, texts: list[str], config: TrainingConfig, options: argparse.Namespace, out: Path
) -> DictionarySet:
    """The dictionaries before: those that were given, or trained without any fine-tuning."""
    if options.dictionaries:
        return DictionarySet.load(options.dictionaries)
    only = replace(config, seed=0, finetune=replace(config.finetune, tokens=0))
    return train_dictionaries(model, texts, recipe_for(model).sites, only, out / "fit")


def task(model: LanguageModel, names: tuple[str, ...], templates: tuple[str, ...], count: int) -> Task:
    """Indirect objects with some of the names in some of the templates."""
    return get("ioi").generate(model.tokenizer, n=count, names=names, templates=templates, test_fraction=0.5)


def answers(task: Task) -> Iterator[int]:
    """Token ids of a task's answers, right and wrong."""
    for side in (task.train, task.test):
        yield from side.answer.tolist()
        yield from side.incorrect.tolist()


def measured(
    model: LanguageModel, dictionaries: DictionarySet, text: DocumentRows, tested: Task
) -> tuple[float, KeptTask]:
    """What is lost of the cross-entropy on text, in nats a token; and what is kept of the task."""
    found = quality(model, dictionaries, text)
    settings = StudySettings(errors="drop", minimum_accuracy=0.5)
    return found.ce_spliced - found.ce_model, kept_task(Study(model, dictionaries, tested, settings))


def compared(what: str, after: tuple[float, KeptTask], before: tuple[float, KeptTask], as_json: bool) -> Iterator[Row]:
    """The three rows of one fine-tuning."""
    (gap, task), (was, earlier) = after, before
    now, then = task.budget[-1], earlier.budget[-1]
    say(f"{what}: ioi {then.faithfulness} before, {now.faithfulness} after, {task.prompts} prompts", as_json)
    yield row(f"{what}: CE lost", gap, was, "nats", f"<= {GAP_LEFT}x", gap <= GAP_LEFT * was)
    share = now.faithfulness.value
    yield row(f"{what}: ioi kept", share, then.faithfulness.value, "share", f">= {LEAST_KEPT}", share >= LEAST_KEPT)
    yield row(f"{what}: ioi KL", now.kl, then.kl, "nats", f"<= {MOST_KL:.2f}", now.kl <= MOST_KL)


if __name__ == "__main__":
    main()
