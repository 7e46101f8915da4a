"""What a training will cost: said before it begins."""

from collections.abc import Sequence

from gossamer.activations.corpus import MEASURED_TOKENS, Corpus
from gossamer.display import plural
from gossamer.model.cost import HEAD, Cost, head_operations, operations_per_second, pass_operations
from gossamer.model.language_model import LanguageModel
from gossamer.training.calibration import calibration_tokens
from gossamer.training.config import DictionarySpec, FinetuneConfig, FitConfig
from gossamer.training.fit import sensitivity_rows

# A training step in products of its batch with W_enc: what it computes exactly, AuxK, gradients and Adam.
_STEP_PRODUCTS = 3.0
# Parameters, gradients, two moments, and what a step needs beside them.
_COPIES = 6
_FLOAT = 4


# Above so many seconds, a shorter run is offered.
_LONG = 3600.0


def told(
    model: LanguageModel, corpus: Corpus, plans: Sequence[DictionarySpec], fit: FitConfig, finetune: FinetuneConfig
) -> str:
    """The cost in words, for who waits; where it is hours, with the tokens that take half an hour."""
    cost = training_cost(model, corpus, plans, fit, finetune)
    dictionaries = plural(len(plans), "dictionary", "dictionaries")
    said = f"training {dictionaries} on {fit.tokens:,} tokens of {model.title}: {cost.told(model)}"
    if cost.seconds < _LONG:
        return said
    fewer = max(10_000, round(fit.tokens * _LONG / 2 / cost.seconds, -4))
    return f"{said}; fewer tokens (--tokens {fewer:.0f}) take about half an hour"


def training_cost(
    model: LanguageModel, corpus: Corpus, plans: Sequence[DictionarySpec], fit: FitConfig, finetune: FinetuneConfig
) -> Cost:
    """Time and memory of fitting `plans`, fine-tuning them in sets of one dictionary a site, and measuring them."""
    sites = sorted({site for plan in plans for site in (plan.site, plan.target)})
    layers = [0 if site.layer is None else site.layer for site in sites]
    sets = len(plans) / len({plan.site for plan in plans})
    whole, after = pass_operations(model), pass_operations(model, min(layers))
    to_last, head = pass_operations(model, 0, max(layers) + 1), HEAD * head_operations(model)
    captured = fit.tokens / fit.reuse + calibration_tokens(fit.tokens)
    operations = captured * to_last
    operations += sum(fit.tokens * _STEP_PRODUCTS * 2 * model.width(one.site) * one.trainer.n_latents for one in plans)
    if any(plan.trainer.sensitivity > 0 for plan in plans):
        rows = sensitivity_rows(fit, max(map(model.width, sites)), corpus.training.ids.shape[1])
        # Rows are cut to their tokens. Backward costs twice what forward does, for the norm's share.
        operations += rows * corpus.training.lengths[:256].double().mean().item() * (whole + 2 * after)
    operations += sets * finetune.tokens * (whole + 2 * after + 3 * finetune.positions * head)
    if finetune.tokens:
        measured = min(MEASURED_TOKENS, int(corpus.held_out.mask.sum()))
        # Each alone, then the model's own pass and one through all of them; what means leave of rows is little.
        operations += sets * measured * (to_last + whole + after + 2 * head)
    buffer = min(fit.buffer, captured) * sum(map(model.width, sites)) * _FLOAT
    parameters = sum(2 * model.width(plan.site) * plan.trainer.n_latents for plan in plans)
    logits = 3 * finetune.rows * corpus.training.ids.shape[1] * finetune.positions * model.d_vocab
    memory = max(buffer + _COPIES * parameters * _FLOAT, _COPIES * parameters * _FLOAT + bool(finetune.tokens) * logits)
    return Cost(operations / operations_per_second(model), int(memory))
