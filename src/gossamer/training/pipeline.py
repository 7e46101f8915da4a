"""From a model and text to a set of dictionaries, in stages that are never done twice."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from gossamer.dictionary.attach import Measurement, measure
from gossamer.dictionary.config import Claims, Contents
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.set import INDEX, DictionarySet
from gossamer.errors import UsageError
from gossamer.files import read_json, write_json
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.training.config import Plan, TrainingConfig
from gossamer.training.corpus import Corpus, split_texts
from gossamer.training.finetune import finetune
from gossamer.training.fit import fit
from gossamer.training.quality import CE_RECOVERED, Quality, quality
from gossamer.training.sampling import sample_text

SETTINGS = "settings.json"
FINAL = "dictionaries"


def train_dictionaries(
    model: LanguageModel,
    texts: Sequence[str],
    sites: Sequence[Site],
    config: TrainingConfig,
    folder: str | Path | None = None,
) -> DictionarySet:
    """Sample text, train a dictionary a site, fine-tune them together, measure them, save them.

    A stage that `folder` holds complete is read instead of done; one that was interrupted goes on where it stopped. The
    result is the same as that of one uninterrupted run, and lies in `folder`/dictionaries.

    Args:
        texts: ordinary text of the kind the model is good at; see :func:`gossamer.training.text.read_texts`.
        sites: where to put dictionaries: streams (resid_pre, resid_mid, resid_post) if they are to be fine-tuned.
        folder: default :func:`default_folder`.

    Raises:
        UsageError: the request is impossible (no sites, too little text), or the folder belongs to another request.
        NotFiniteError: activations or a loss are not finite (the site is named).
        GossamerError: a file in the folder is damaged.
    """
    sites = sorted(set(sites))
    for site in sites:
        model.width(site)
    request = _request(model, texts, sites, config)
    target = default_folder(model.name, request) if folder is None else Path(folder)
    _claim(target, request)
    if (target / FINAL / INDEX).is_file():
        return DictionarySet.load(target / FINAL)
    training, held_out = split_texts(texts, config.corpus, config.seed)
    training += sample_text(model, training, config.corpus, target / "samples", config.seed)
    corpus = Corpus.build(model, training, held_out, config.corpus, config.seed)
    fitted = _fitted(model, corpus, sites, config, target)
    if config.finetune.tokens:
        fitted = finetune(model, fitted, corpus, config.finetune, target / "finetune", config.seed)
    _with_claims(model, fitted, corpus, config).save(target / FINAL)
    # Read back, so that a first run returns exactly what a later one does.
    return DictionarySet.load(target / FINAL)


def default_folder(model_name: str, request: dict[str, Any]) -> Path:
    """$GOSSAMER_CACHE, or ~/.cache/gossamer, then dictionaries/<model>-<hash of the request>."""
    root = Path(os.environ.get("GOSSAMER_CACHE") or Path.home() / ".cache" / "gossamer")
    digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:12]
    return root / "dictionaries" / f"{Path(model_name).name}-{digest}"


def _request(
    model: LanguageModel, texts: Sequence[str], sites: Sequence[Site], config: TrainingConfig
) -> dict[str, Any]:
    """Everything the result depends on."""
    text_hash = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    return {
        # Its short name: the same model may be named by another path.
        "model": model.title,
        "model_sha256": _weights_hash(model),
        "texts": len(texts),
        "texts_sha256": text_hash,
        "sites": [str(site) for site in sites],
        **json.loads(json.dumps(asdict(config))),
    }


def _weights_hash(model: LanguageModel) -> str:
    """Of the first values of every weight: tells models of one name apart without reading all of a large one."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.hf.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.reshape(-1)[:1024].float().cpu().numpy().tobytes())
    return digest.hexdigest()


def _claim(folder: Path, request: dict[str, Any]) -> None:
    path = folder / SETTINGS
    if not path.is_file():
        write_json(path, request)
        return
    stored = read_json(path)
    if stored != request:
        differing = sorted(name for name in {*stored, *request} if stored.get(name) != request.get(name))
        raise UsageError(
            f"{folder}: belongs to another training run (other {', '.join(differing)}); "
            "use the same settings or another folder"
        )


def _fitted(
    model: LanguageModel, corpus: Corpus, sites: Sequence[Site], config: TrainingConfig, folder: Path
) -> DictionarySet:
    if (folder / "fitted" / INDEX).is_file():
        return DictionarySet.load(folder / "fitted")
    plans = [Plan(str(site), site, None, config.learner, config.seed) for site in sites]
    found = DictionarySet(fit(model, corpus, plans, config.fit, folder / "fit", config.seed).values())
    found.save(folder / "fitted")
    return DictionarySet.load(folder / "fitted")


def _with_claims(
    model: LanguageModel, dictionaries: DictionarySet, corpus: Corpus, config: TrainingConfig
) -> DictionarySet:
    """The same dictionaries, saying how they were trained and what they do on held-out text."""
    alone = measure(model, dictionaries, corpus.held_out)
    together = quality(model, dictionaries, corpus.held_out)
    facts = {
        "config": asdict(config),
        "corpus_sha256": corpus.fingerprint,
        "held_out": _claims_together(together, dictionaries),
        "torch": torch.__version__,
    }
    return DictionarySet(_claiming(one, alone[site], facts) for site, one in dictionaries.items())


def _claims_together(found: Quality, dictionaries: DictionarySet) -> dict[str, Any]:
    return {
        **asdict(found),
        "ce_recovered": found.ce_recovered,
        "ce_recovered_formula": CE_RECOVERED,
        "spliced_sites": [str(site) for site in dictionaries],
    }


def _claiming(dictionary: Dictionary, found: Measurement, facts: dict[str, Any]) -> Dictionary:
    contents = Contents(
        dictionary.config,
        dict(dictionary.state_dict()),
        {"training": {**facts, "explained_variance_formula": found.formula}},
        replace(Claims(), l0=found.l0, explained_variance=found.explained_variance),
    )
    return Dictionary.from_contents(contents)
