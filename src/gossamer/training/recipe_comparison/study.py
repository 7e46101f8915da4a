"""Train and measure the grid: one pass of the model a seed, for all dictionaries of that seed."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from gossamer.activations.corpus import Corpus, split_texts
from gossamer.dictionary.encoding_method import EncodingMethod
from gossamer.files import write_text
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteLike
from gossamer.replacement.evaluate import evaluate_methods
from gossamer.training import metrics
from gossamer.training.config import CorpusConfig, DictionarySpec, FitConfig
from gossamer.training.fit import fit
from gossamer.training.recipe_comparison.grid import RecipeComparisonConfig, Variant, variants
from gossamer.training.recipe_comparison.results import RESULTS, RecipeComparison, Trained
from gossamer.training.recipe_comparison.table import markdown

TABLE = "table.md"


def compare_recipes(
    model: LanguageModel,
    texts: Sequence[str],
    site: SiteLike,
    config: RecipeComparisonConfig,
    corpus: CorpusConfig,
    loop: FitConfig,
    folder: Path,
    *,
    seed: int = 0,
    rows: int = 128,
) -> RecipeComparison:
    """Train every variant at every coefficient and seed, measure it on held-out text, and write the results.

    `folder` gets results.json and table.md, written anew when a seed is done, and in fit-0/, fit-1/ and so on the
    checkpoint and metrics of each seed: a run that was stopped goes on. Memory: variants * coefficients dictionaries
    with their moments.

    Args:
        seed: of the corpus; each of the grid's seeds adds its number to it for the order of the data.
        rows: held-out rows to measure on.

    Raises:
        UsageError: too little text, or the folder belongs to another run.
        NotFiniteError: a loss is not finite.
    """
    site = Site.of(site)
    model.width(site)
    read = Corpus.build(model, *split_texts(texts, corpus, seed), corpus, seed)
    settings = {"grid": asdict(config), "loop": asdict(loop), "corpus": read.fingerprint, "seed": seed}
    settings |= {"weights_sha256": weights_sha256(model.hf)}
    found = RecipeComparison(model.title, str(site), settings, ())
    for one in range(config.seeds):
        planned = [
            (variant, coefficient, variant.plan(site, coefficient, one))
            for variant in variants(config)
            for coefficient in config.coefficients
        ]
        dictionaries = fit(model, read, [plan for _, _, plan in planned], loop, folder / f"fit-{one}", seed + one)
        methods = {name: EncodingMethod(dictionary, dictionary.encode) for name, dictionary in dictionaries.items()}
        measured = evaluate_methods(model, methods, read.held_out[:rows])
        curves = _curves(folder / f"fit-{one}", loop)
        trained = [
            _trained(variant, coefficient, plan, measured[plan.name], curves[plan.name])
            for variant, coefficient, plan in planned
        ]
        found = replace(found, trained=(*found.trained, *trained))
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
    variant: Variant, coefficient: float, plan: DictionarySpec, measured: object, curve: tuple[tuple[int, float], ...]
) -> Trained:
    numbers = {name: float(getattr(measured, name)) for name in ("l0", "loss_recovered", "explained_variance")}
    dead = curve[-1][1]
    return Trained(variant.name, variant.family, coefficient, plan.seed, **numbers, dead=dead, dead_curve=curve)
