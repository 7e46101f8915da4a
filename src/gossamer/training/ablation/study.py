"""Train and measure the grid: one pass of the model for all dictionaries."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from gossamer.activations.corpus import Corpus, split_texts
from gossamer.dictionary.coder import Coder
from gossamer.files import write_text
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteLike
from gossamer.replacement.evaluate import evaluate_coders
from gossamer.training import metrics
from gossamer.training.ablation.grid import AblationConfig, Variant, variants
from gossamer.training.ablation.results import RESULTS, Ablation, Trained
from gossamer.training.ablation.table import markdown
from gossamer.training.config import CorpusConfig, FitConfig, Plan
from gossamer.training.fit import fit

TABLE = "table.md"


def ablate(
    model: LanguageModel,
    texts: Sequence[str],
    site: SiteLike,
    config: AblationConfig,
    corpus: CorpusConfig,
    loop: FitConfig,
    folder: Path,
    *,
    seed: int = 0,
    rows: int = 128,
) -> Ablation:
    """Train every variant at every coefficient and seed, measure it on held-out text, and write the results.

    `folder` gets results.json, table.md and, in fit/, checkpoint and metrics: a run that was stopped goes on.
    Memory: variants * coefficients * seeds dictionaries with their moments.

    Args:
        seed: of the order of the data.
        rows: held-out rows to measure on.

    Raises:
        UsageError: too little text, or the folder belongs to another run.
        NotFiniteError: a loss is not finite.
    """
    site = Site.of(site)
    model.width(site)
    read = Corpus.build(model, *split_texts(texts, corpus, seed), corpus, seed)
    planned = [
        (variant, coefficient, variant.plan(site, coefficient, one))
        for variant in variants(config)
        for coefficient in config.coefficients
        for one in range(config.seeds)
    ]
    dictionaries = fit(model, read, [plan for _, _, plan in planned], loop, folder / "fit", seed)
    coders = {name: Coder(one, one.encode) for name, one in dictionaries.items()}
    measured = evaluate_coders(model, coders, read.held_out[:rows])
    curves = _curves(folder / "fit", loop)
    trained = tuple(
        _trained(variant, coefficient, plan, measured[plan.name], curves[plan.name])
        for variant, coefficient, plan in planned
    )
    settings = {"grid": asdict(config), "loop": asdict(loop), "corpus": read.fingerprint, "seed": seed}
    settings |= {"weights_sha256": weights_sha256(model.hf)}
    found = Ablation(model.title, str(site), settings, trained)
    found.save(folder / RESULTS)
    write_text(folder / TABLE, markdown(found))
    return found


def _curves(folder: Path, loop: FitConfig) -> dict[str, tuple[tuple[int, float], ...]]:
    """(tokens seen, share of dead latents) of every dictionary."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in metrics.read(folder):
        found.setdefault(line["name"], []).append(((line["step"] + 1) * loop.batch, line["dead"]))
    return {name: tuple(curve) for name, curve in found.items()}


def _trained(
    variant: Variant, coefficient: float, plan: Plan, measured: object, curve: tuple[tuple[int, float], ...]
) -> Trained:
    numbers = {name: float(getattr(measured, name)) for name in ("l0", "loss_recovered", "explained_variance")}
    dead = curve[-1][1]
    return Trained(variant.name, variant.family, coefficient, plan.seed, **numbers, dead=dead, dead_curve=curve)
