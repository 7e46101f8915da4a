"""Settings that work: for the two models they were tried on, and in proportion for any other."""

from dataclasses import dataclass, replace
from pathlib import Path

from gossamer.activations.text import bos_id
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.training.config import CorpusConfig, DictionaryTrainerConfig, FinetuneConfig, FitConfig, TrainingConfig
from gossamer.training.objectives import BatchTopK


@dataclass(frozen=True)
class Recipe:
    """Where to put dictionaries and how to train them.

    Attributes:
        layers: dictionaries read the residual stream after these layers.
        config: everything else.
    """

    layers: tuple[int, ...]
    config: TrainingConfig

    __repr__ = short_repr

    @property
    def sites(self) -> list[Site]:
        """The sites, in execution order."""
        return [Site("resid_post", layer) for layer in self.layers]


# Values that a buffer holds at one of three sites.
_BUFFERED = 2**27 // 3

RECIPES: dict[str, Recipe] = {
    "tinytalk-3m-gpt2": Recipe(
        # After layer 6 the answer's name is all but written: a dictionary there alone costs 15 % of the IOI difference.
        layers=(1, 3, 5),
        config=TrainingConfig(
            corpus=CorpusConfig(context=64, bos=0.5),
            # Width counts for more than k: 2,048 latents keep less at k = 64 than 4,096 at k = 40.
            trainer=DictionaryTrainerConfig(n_latents=4096, objective=BatchTopK(k=40)),
            fit=FitConfig(tokens=3_000_000, reuse=2),
            finetune=FinetuneConfig(tokens=1_000_000, logit_error=2.0, reconstruction=0.2),
        ),
    ),
    "stories260k": Recipe(
        layers=(1, 2, 3),
        config=TrainingConfig(
            corpus=CorpusConfig(context=64, bos=1.0),
            trainer=DictionaryTrainerConfig(n_latents=1024, objective=BatchTopK(k=24)),
            fit=FitConfig(tokens=3_000_000, reuse=2),
            finetune=FinetuneConfig(tokens=500_000, logit_error=2.0, reconstruction=0.2),
        ),
    ),
}


def recipe_for(model: LanguageModel) -> Recipe:
    """The recipe of the model's name (the last part of its path), or :func:`general` for a model that has none.

    Raises:
        UsageError: the model has no two layers.
    """
    return RECIPES.get(Path(model.name).name) or general(model)


# Of the tokens that dictionaries are fitted on, those of an end-to-end fine-tuning.
_END_TO_END_SHARE = 0.05
# Of wider models the learning rate falls as the width grows: Adam moves every weight by as much, and those of wide
# models are smaller. At the rate that a width of 128 gains from, Gemma's 640 kept less (docs/training.md).
_FULL_RATE_WIDTH = 128


def end_to_end(config: TrainingConfig, width: int) -> FinetuneConfig:
    """A fine-tuning on KL and reconstruction, balanced at the start, for a twentieth of the tokens of the fit.

    After Karvonen 2025 (arXiv 2503.17272), with the error of the logits beside the KL. Steps are of few rows: so short
    a run gains more from their number than from their size (docs/training.md).

    Args:
        config: of the fit.
        width: of the model's stream.
    """
    tokens = round(_END_TO_END_SHARE * config.fit.tokens)
    rate = config.finetune.learning_rate * min(1.0, _FULL_RATE_WIDTH / width)
    finetune = replace(config.finetune, tokens=tokens, rows=4, thresholds="spliced", learning_rate=rate)
    return replace(finetune, logit_error=1.0, reconstruction=1.0, balanced=True)


def general(model: LanguageModel) -> Recipe:
    """Three dictionaries at about a quarter, half and three quarters of the depth, 16 latents a dimension (at most
    32,768), and one active latent for every four dimensions, from 16 to 64.

    Raises:
        UsageError: the model has one layer.
    """
    if model.n_layers < 2:
        raise UsageError(f"{model.name} has one layer: no stream between layers to put dictionaries in; give sites")
    layers = sorted({max(0, round(model.n_layers * share) - 1) for share in (0.25, 0.5, 0.75)})
    has_bos = bos_id(model) is not None
    share = 1.0 if model.has_bos_by_default else 0.5 if has_bos else 0.0
    objective = BatchTopK(k=min(64, max(16, model.d_model // 4)))
    trainer = DictionaryTrainerConfig(n_latents=min(16 * model.d_model, 32_768), objective=objective)
    corpus = CorpusConfig(context=min(64, model.n_context - 1), bos=share)
    # Three sites of a wide model in half a gigabyte; used twice, as capturing costs more than a step does.
    fit = FitConfig(buffer=min(FitConfig.buffer, max(16_384, _BUFFERED // model.d_model)), reuse=2)
    # Less than small vocabularies get: with a wide one the logits of a token cost more than all else.
    finetune = FinetuneConfig(tokens=fit.tokens // 10)
    return Recipe(tuple(layers), TrainingConfig(corpus=corpus, trainer=trainer, fit=fit, finetune=finetune))
