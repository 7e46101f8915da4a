"""Fine-tune finished dictionaries on what the model says: nothing is fitted anew."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from gossamer.activations.text import bos_id
from gossamer.dictionary.attach import require_model
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.set import INDEX, DictionarySet
from gossamer.dictionary.training_tokens import TrainingTokens
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.training.config import CorpusConfig, TrainingConfig
from gossamer.training.finetune import finetune
from gossamer.training.parallel import Processes
from gossamer.training.pipeline import FINAL, corpus_for, with_claims
from gossamer.training.request import at_work, request_of
from gossamer.training.task_prompts import TaskPrompts


def finetune_dictionaries(
    model: LanguageModel,
    dictionaries: DictionarySet,
    texts: Sequence[str],
    config: TrainingConfig,
    folder: str | Path | None = None,
    *,
    prompts: TaskPrompts | None = None,
) -> DictionarySet:
    """Fine-tune a set together, spliced in, measure it, save it to `folder`/dictionaries in SAELens' format.

    Resumes, and reads what is complete, as :func:`gossamer.training.pipeline.train_dictionaries` does. What the
    dictionaries say of their training stays; "finetuned" is added to it.

    Args:
        dictionaries: topk, batchtopk or jumprelu, at any sites that can be replaced.
        texts: ordinary text, better not the text that the dictionaries were trained on in the same order.
        config: rows of text, fine-tuning and seed count; for the rows see :func:`rows_like`.
        folder: default :func:`gossamer.training.request.default_folder`.
        prompts: of tasks, to learn from beside the text.

    Raises:
        UsageError: tokens for less than one step, dictionaries of another model or that cannot be fine-tuned, too
            little text, or the folder belongs to another request or process.
        NotFiniteError: a stream or the loss is not finite (the site is named).
        GossamerError: a file in the folder is damaged.
    """
    step = config.finetune.rows * config.corpus.context
    if config.finetune.tokens < step:
        raise UsageError(
            f"fine-tuning finished dictionaries: expected tokens of finetune of at least one step ({step}), found "
            f"{config.finetune.tokens}"
        )
    require_model(model, dictionaries)
    request = request_of(model, texts, list(dictionaries), config, [], None)
    for name in ("fit", "trainer", "plans"):
        del request[name]
    request["from"] = {str(site): _weights_sha256(one) for site, one in dictionaries.items()}
    request |= {} if prompts is None else {"prompts": prompts.facts}
    with at_work(model, request, folder, None) as target:
        if not (target / FINAL / INDEX).is_file():
            _finetune(model, dictionaries, texts, config, target, prompts)
        return DictionarySet.load(target / FINAL)


def rows_like(dictionaries: DictionarySet, model: LanguageModel, otherwise: CorpusConfig) -> CorpusConfig:
    """Rows of text as the dictionaries learned from, as far as they say; what they do not say is as in `otherwise`.

    Raises:
        UsageError: they learned from different tokens.
    """
    learned = [TrainingTokens.of(one) for one in dictionaries.values()]
    masks = list(dict.fromkeys(one.mask for one in learned))
    if len(masks) > 1:
        raise UsageError(f"dictionaries at {len(dictionaries)} sites: expected one mask of tokens, found {len(masks)}")
    said = [_training(one).get("config") for one in dictionaries.values()]
    rows = [one["corpus"] for one in said if isinstance(one, Mapping) and isinstance(one.get("corpus"), Mapping)]
    found = {name: rows[0][name] for name in ("context", "bos") if rows and name in rows[0]}
    context, bos = learned[0].context, learned[0].bos
    found |= {} if context is None else {"context": context}
    found |= {} if bos is None else {"bos": float(bos)}
    if bos_id(model) is None:
        found["bos"] = 0.0
    return replace(otherwise, mask=masks[0], **found)


def _finetune(
    model: LanguageModel,
    dictionaries: DictionarySet,
    texts: Sequence[str],
    config: TrainingConfig,
    folder: Path,
    prompts: TaskPrompts | None,
) -> None:
    processes = Processes.current()
    corpus = corpus_for(model, texts, config, folder)
    found = finetune(model, dictionaries, corpus, config.finetune, folder / "finetune", config.seed, prompts)
    facts = {site: {**_training(one), "torch": torch.__version__} for site, one in dictionaries.items()}
    measured = with_claims(model, found, corpus, facts, dictionaries, prompts)
    if processes.writes:
        measured.save(folder / FINAL)
    processes.wait()


def _training(dictionary: Dictionary) -> dict[str, Any]:
    """What it says of its training; an empty mapping if that is nothing we know."""
    said = dictionary.provenance.get("training")
    return dict(said) if isinstance(said, Mapping) else {}


def _weights_sha256(dictionary: Dictionary) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(dictionary.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
