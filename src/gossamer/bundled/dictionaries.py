"""The bundled model's dictionaries: their settings, and how much of each task's logit difference they keep."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.bundled.accuracy import TASKS, held_out_prompts
from gossamer.bundled.corpus import texts
from gossamer.dictionary.set import DictionarySet
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.replacement.replacement_model import ReplacementModel
from gossamer.tasks.metric import LOGIT_DIFFERENCE
from gossamer.tasks.prompt import Prompt
from gossamer.training.config import CorpusConfig, DictionaryTrainerConfig, FinetuneConfig, FitConfig, TrainingConfig
from gossamer.training.objectives import BatchTopK
from gossamer.training.pipeline import FINAL, train_dictionaries

SITES = (Site("resid_post", 1), Site("resid_post", 2), Site("resid_post", 3))
TEXTS = 12_000
OBJECTIVE = BatchTopK(k=20)
CONFIG = TrainingConfig(
    corpus=CorpusConfig(context=80, bos=1.0),
    trainer=DictionaryTrainerConfig(n_latents=768, objective=OBJECTIVE),
    fit=FitConfig(tokens=1_000_000),
    finetune=FinetuneConfig(tokens=1_000_000, positions=0.5),
)


def build_dictionaries(folder: Path, seed: int) -> DictionarySet:
    """Train dictionaries for the model in `folder` on its own corpus and save them in `folder`/dictionaries.

    Raises:
        GossamerError: training failed, or the files could not be written.
    """
    model = LanguageModel.load(folder)
    # The dictionaries say what they belong to: the model under its public name, not the folder it was built in.
    model.name = f"bundled:{folder.name}"
    with tempfile.TemporaryDirectory() as scratch:
        train_dictionaries(model, texts(TEXTS, seed), SITES, replace(CONFIG, seed=seed), scratch)
        # The files as they were written: a set that is read and saved would name the scratch folder as its source.
        shutil.copytree(Path(scratch) / FINAL, folder / FINAL, dirs_exist_ok=True)
    return DictionarySet.load(folder / FINAL)


@torch.no_grad()
def kept(model: LanguageModel, dictionaries: DictionarySet, n: int, seed: int) -> dict[str, float]:
    """For every bundled task, mean logit difference with all dictionaries spliced in, as a share of the model's own.

    Measured on up to `n` held-out prompts of each, run after BOS; BOS itself passes through untouched, and the
    reconstruction errors are dropped.
    """
    network = ReplacementModel(model, dictionaries)
    shares = {}
    for task in TASKS:
        prompts = held_out_prompts(task, n, seed)
        tokens = model.tokenize([prompt.clean_text for prompt in prompts], bos=True)
        after_bos = tokens.mask & (torch.arange(tokens.mask.shape[1]) > 0)
        spliced = network.logits(tokens, after_bos, at=tokens.last)
        whole = model.logits(tokens, at=tokens.last)
        shares[task] = _difference(model, prompts, spliced) / _difference(model, prompts, whole)
    return shares


def _difference(model: LanguageModel, prompts: list[Prompt], logits: Float[Tensor, "prompt vocab"]) -> float:
    """Mean over prompts of the logit of the answer minus that of the counterfactual's answer."""
    right = model.tokenize([prompt.answer for prompt in prompts], bos=False).ids
    incorrect = model.tokenize([prompt.incorrect for prompt in prompts], bos=False).ids
    return float(LOGIT_DIFFERENCE(logits, right, incorrect).mean())
