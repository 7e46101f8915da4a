"""Every setting of training, documented in place."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gossamer.activations.corpus import RowConfig
from gossamer.display import short_repr
from gossamer.model.site import GivenSite, Site
from gossamer.training.checks import require, require_kinds
from gossamer.training.controls import CONTROLS, NONE, RANDOM_MODEL
from gossamer.training.dead_latents import DeadLatentStrategy, Resampling
from gossamer.training.objectives import BatchTopK, Objective
from gossamer.training.units import SCALINGS

CACHE_DTYPES = ("float32", "bfloat16", "float16")
THRESHOLDS = ("own", "spliced")
DECODER_NORMS = ("unit", "at_most_one", "free")


@dataclass(frozen=True)
class CorpusConfig(RowConfig):
    """What the dictionaries learn from: rows of text, and what the model itself adds to it.

    The BOS position itself is never learned from, and it is passed through untouched when dictionaries are spliced in;
    what is held out tells what the dictionaries claim of themselves.

    Attributes:
        sample_tokens: tokens to sample from the model itself and add to the text; 0 for none.
        sample_prefix: longest beginning of a text that a sample continues, in tokens; each sample draws its own length
            from 0 (BOS alone, where the tokenizer has one) to this.
        sample_batch: samples drawn at once; one file each.
    """

    sample_tokens: int = 0
    sample_prefix: int = 8
    sample_batch: int = 256

    def __post_init__(self) -> None:
        require_kinds(self)
        super().__post_init__()
        require(self.sample_tokens >= 0, "sample_tokens of at least 0", self.sample_tokens)
        require(self.sample_prefix >= 1, "sample_prefix of at least 1", self.sample_prefix)
        require(self.sample_batch >= 1, "sample_batch of at least 1", self.sample_batch)


@dataclass(frozen=True)
class OptimiserConfig:
    """How one dictionary's parameters move.

    Attributes:
        learning_rate: peak of Adam's learning rate, for activations scaled to unit variance per dimension. Too low is
            the mistake that costs most: at d_model 128, 512 tokens a step and 1,000 steps, 5e-4 left 3.5 times the
            error of 1.5e-2.
        warm_up: share of the steps in which the learning rate rises linearly.
        decay: share of the steps, the last ones, in which it falls linearly to 0.
        clip: largest norm of a step's gradient.
        beta1, beta2: decays of Adam's averages of gradients and of their squares.
        decoder_norm: "unit": rows of W_dec keep norm 1, and no gradient along them is seen; "at_most_one": rows longer
            than 1 are cut back to it; "free".
    """

    learning_rate: float = 1e-2
    warm_up: float = 0.05
    decay: float = 0.5
    clip: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.999
    decoder_norm: str = "unit"

    def __post_init__(self) -> None:
        require_kinds(self)
        require(self.learning_rate > 0, "a positive learning_rate", self.learning_rate)
        require(0 <= self.warm_up <= 1 and 0 <= self.decay <= 1, "warm_up and decay between 0 and 1", self)
        require(self.clip > 0, "a positive clip", self.clip)
        require(0 <= self.beta1 < 1 and 0 <= self.beta2 < 1, "beta1 and beta2 from 0 to below 1", self)
        require(self.decoder_norm in DECODER_NORMS, f"decoder_norm among {DECODER_NORMS}", repr(self.decoder_norm))


@dataclass(frozen=True)
class DictionaryTrainerConfig:
    """What one dictionary is, and how it learns.

    Attributes:
        n_latents: latents of the dictionary.
        objective: what it is asked for, with its own settings (:mod:`gossamer.training.objectives`).
        dead_latents: what is done about dead latents beside the objective (:mod:`gossamer.training.dead_latents`).
        optimiser: how its parameters move.
        scaling: units of training: "unit_variance" (mean subtracted, variance 1 per dimension), "sqrt_d" (nothing
            subtracted, E||x|| = sqrt(d)) or "none".
        pre_bias: whether b_dec is subtracted from what the encoder reads. The saved dictionary has it folded in.
        initial_norm: norm of the decoder's rows at the start.
        encoder_scale: W_enc starts as this times W_dec transposed. Reconstructions of the first steps are too large at
            1, so that a smaller one helps short runs; in longer ones fewer latents stay in use (docs/training.md).
        sensitivity: 0 counts errors evenly over directions; up to 1, by how much the model's output minds them (see
            :mod:`gossamer.training.sensitivity`). Not for topk, whose order of latents needs rows of one norm.
        dead_after: a latent is dead when it has not fired for this many tokens.
        control: "none", or how the dictionary is kept from learning (:mod:`gossamer.training.controls`).
    """

    n_latents: int = 2048
    objective: Objective = field(default_factory=BatchTopK)
    dead_latents: DeadLatentStrategy | None = None
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    scaling: str = "unit_variance"
    pre_bias: bool = False
    initial_norm: float = 1.0
    encoder_scale: float = 1.0
    sensitivity: float = 0.9
    dead_after: int = 100_000
    control: str = NONE

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_kinds(self)
        require(self.n_latents >= 1, "n_latents of at least 1", self.n_latents)
        self.objective.check(self.n_latents, self.optimiser.decoder_norm)
        require(self.scaling in SCALINGS, f"scaling among {SCALINGS}", repr(self.scaling))
        require(self.initial_norm > 0, "a positive initial_norm", self.initial_norm)
        require(self.encoder_scale > 0, "a positive encoder_scale", self.encoder_scale)
        bound = self.optimiser.decoder_norm == "unit" and self.initial_norm != 1
        require(not bound, "initial_norm of 1 with decoder_norm 'unit'", self.initial_norm)
        require(0 <= self.sensitivity <= 0.99, "sensitivity between 0 and 0.99", self.sensitivity)
        evenly = self.sensitivity == 0 or self.objective.architecture != "topk"
        require(evenly, "sensitivity of 0 with the objective topk", self.sensitivity)
        require(self.dead_after >= 1, "dead_after of at least 1", self.dead_after)
        require(self.control in (NONE, *CONTROLS), f"control among {(NONE, *CONTROLS)}", repr(self.control))
        anew = isinstance(self.dead_latents, Resampling) and self.control not in (NONE, RANDOM_MODEL)
        require(not anew, f"no resampling of dead latents with the control {self.control}", self.dead_latents)

    @property
    def facts(self) -> dict[str, Any]:
        """All of it, for JSON; a control only where there is one, so that records are as they were."""
        found = asdict(self)
        if self.control == NONE:
            del found["control"]
        return found

    @property
    def architecture(self) -> str:
        """Of the dictionary that comes out: BatchTopK with a metric of errors needs a threshold for each latent."""
        found = self.objective.architecture
        return "jumprelu" if found == "batchtopk" and self.sensitivity > 0 else found


@dataclass(frozen=True)
class DictionarySpec:
    """One dictionary to train.

    Attributes:
        name: what it is called in checkpoints and metrics; its own among those trained together.
        site: where it reads; its name will do.
        site_out: where a transcoder's target stands; None: it reconstructs what it reads.
        trainer: what it is and how it learns.
        seed: of its initial weights and of what it draws.

    Raises:
        UsageError: a site that has no single vector for each token, or a transcoder that writes where it reads or
            subtracts its output's bias from its input.
    """

    name: str
    site: GivenSite
    site_out: GivenSite | None = None
    trainer: DictionaryTrainerConfig = field(default_factory=DictionaryTrainerConfig)
    seed: int = 0

    __repr__ = short_repr

    def __post_init__(self) -> None:
        for end in ("site", "site_out"):
            if isinstance(name := getattr(self, end), str):
                object.__setattr__(self, end, Site.of(name))
        require_kinds(self)
        require(self.name != "" and ":" not in self.name, "a name without colons for a dictionary", repr(self.name))
        for site in (self.site, self.target):
            require_vectors(site)
        require(self.site_out != self.site, f"another site_out than the site {self.site}", self.site_out)
        crossed = self.site_out is not None and self.trainer.pre_bias
        require(not crossed, f"no pre_bias for a transcoder ({self.name})", "pre_bias")

    @property
    def target(self) -> Site:
        """The site whose activations come out."""
        return self.site if self.site_out is None else self.site_out

    @property
    def facts(self) -> dict[str, Any]:
        """Everything about it, for JSON."""
        sites = {"site": str(self.site), "site_out": None if self.site_out is None else str(self.site_out)}
        return {"name": self.name, **sites, "trainer": self.trainer.facts, "seed": self.seed}


@dataclass(frozen=True)
class FitConfig:
    """Training on reconstruction: the loop that all dictionaries of a run share.

    Attributes:
        sensitivity_rows: rows from which is estimated what the model's output minds, at most: a short run takes fewer.
        tokens: activations to learn from; more than the corpus has means several epochs.
        batch: activations in one optimiser step.
        buffer: activations captured and shuffled together, at every site (memory: buffer * d_model * sites values).
        reuse: times a buffer is used, in another order each time, before the next is captured.
        capture_rows: rows in one forward pass of the model.
        accumulate: parts of a batch whose gradients are taken one after the other and averaged, for batches whose
            pre-activations (batch * n_latents) do not fit in memory. BatchTopK's selection runs over one part, so that
            k holds on average over a part; what is dead for AuxK is judged part by part; all else is as without.
        autocast: the products of the dictionaries in bfloat16 (parameters, gradients and moments stay float32). On a
            CPU TopK rules are exact, and as fast, without (:mod:`gossamer.sparse.screen`): there it reaches only what
            dead latents learn from.
        cache_dtype: of activations that are cached on disk: bfloat16, float16 or float32.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of metrics.jsonl.
    """

    sensitivity_rows: int = 512
    tokens: int = 2_000_000
    batch: int = 512
    buffer: int = 131_072
    reuse: int = 1
    capture_rows: int = 16
    accumulate: int = 1
    autocast: bool = False
    cache_dtype: str = "bfloat16"
    checkpoint_every: int = 500
    log_every: int = 100

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_kinds(self)
        require(self.sensitivity_rows >= 1, "sensitivity_rows of at least 1", self.sensitivity_rows)
        require(self.batch >= 1, "batch of at least 1", self.batch)
        require(self.tokens >= self.batch, f"tokens of at least one batch ({self.batch})", self.tokens)
        require(self.buffer >= self.batch, f"buffer of at least one batch ({self.batch})", self.buffer)
        require(self.reuse >= 1, "reuse of at least 1", self.reuse)
        require(self.capture_rows >= 1, "capture_rows of at least 1", self.capture_rows)
        require(1 <= self.accumulate <= self.batch, f"accumulate from 1 to batch={self.batch}", self.accumulate)
        require(self.cache_dtype in CACHE_DTYPES, f"cache_dtype among {CACHE_DTYPES}", repr(self.cache_dtype))
        require(self.checkpoint_every >= 1 and self.log_every >= 1, "checkpoint_every and log_every from 1", self)

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return self.tokens // self.batch


@dataclass(frozen=True)
class FinetuneConfig:
    """Training of all dictionaries together, spliced in, on what the model says (arXiv 2405.12241, 2503.17272).

    Attributes:
        tokens: tokens to learn from; 0 skips the stage.
        rows: rows in one optimiser step.
        positions: share of the positions of a row whose logits are compared; the head is most of the work.
        learning_rate: peak of Adam's learning rate.
        warm_up, decay: as in :class:`OptimiserConfig`.
        clip: largest norm of a step's gradient.
        logit_error: weight of the squared error of the logits (a share of their variance), beside the KL in nats.
        reconstruction: weight of the unexplained variance of the model's own activations (mean over sites).
        balanced: the two weights are in units in which either term is as large as the KL at the first step; what they
            come to is kept.
        prompt_share: of the rows of a step, and of the KL, how much prompts of tasks make up where there are any.
        k: active latents a token from now on: one number for all sites, or one a site in execution order; none: as
            many as the dictionaries were trained for.
        thresholds: on which activations the thresholds that stand for a batch rule are set at the end, "own": the
            model's, or "spliced": what reaches a site behind the reconstructions before it, which is smaller.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of metrics.jsonl.
    """

    tokens: int = 500_000
    rows: int = 16
    positions: float = 0.25
    learning_rate: float = 3e-4
    warm_up: float = 0.05
    decay: float = 1.0
    clip: float = 1.0
    logit_error: float = 1.0
    reconstruction: float = 0.3
    balanced: bool = False
    prompt_share: float = 0.25
    k: tuple[int, ...] = ()
    thresholds: str = "own"
    checkpoint_every: int = 50
    log_every: int = 20

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_kinds(self)
        require(self.tokens >= 0, "tokens of the fine-tuning of at least 0", self.tokens)
        require(self.rows >= 1, "rows of at least 1", self.rows)
        require(0 < self.positions <= 1, "positions above 0, at most 1", self.positions)
        require(self.learning_rate > 0, "a positive learning_rate of the fine-tuning", self.learning_rate)
        require(0 <= self.warm_up <= 1 and 0 <= self.decay <= 1, "warm_up and decay between 0 and 1", self)
        require(self.clip > 0, "a positive clip of the fine-tuning", self.clip)
        require(min(self.logit_error, self.reconstruction) >= 0, "logit_error and reconstruction from 0", self)
        require(0 < self.prompt_share < 1, "a share of prompts between 0 and 1", self.prompt_share)
        require(min(self.k, default=1) >= 1, "k of the fine-tuning of at least 1", self.k)
        require(self.thresholds in THRESHOLDS, f"thresholds among {THRESHOLDS}", repr(self.thresholds))
        require(self.checkpoint_every >= 1 and self.log_every >= 1, "checkpoint_every and log_every from 1", self)

    @property
    def facts(self) -> dict[str, Any]:
        """For JSON; of settings that earlier versions did not have only what differs from what those did."""
        found = {**asdict(self), "k": list(self.k)}
        newer = {"balanced": False, "prompt_share": FinetuneConfig.prompt_share, "k": [], "thresholds": "own"}
        return {name: value for name, value in found.items() if name not in newer or value != newer[name]}

    @property
    def prompt_rows(self) -> int:
        """Prompts of tasks in a step, where there are any: at least one, and at least one row of text."""
        return min(max(1, round(self.prompt_share * self.rows)), self.rows - 1)

    def k_at(self, sites: Sequence[Site]) -> dict[Site, int]:
        """The new k of each site; none where k stays.

        Raises:
            UsageError: as many numbers as there are sites are not given.
        """
        each = self.k * len(sites) if len(self.k) == 1 else self.k
        require(
            len(each) in (0, len(sites)), f"one k of the fine-tuning, or one for each of {len(sites)} sites", self.k
        )
        return dict(zip(sites, each, strict=False))


@dataclass(frozen=True)
class TrainingConfig:
    """The whole way from text to dictionaries.

    Attributes:
        corpus: what they learn from.
        trainer: what the dictionary of each site is, and how it learns.
        fit: the training of each on reconstruction.
        finetune: the training of all on the model's logits.
        seed: of weights, samples and the order of the data.
    """

    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    trainer: DictionaryTrainerConfig = field(default_factory=DictionaryTrainerConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    seed: int = 0

    __repr__ = short_repr

    def __post_init__(self) -> None:
        require_kinds(self)

    @property
    def facts(self) -> dict[str, Any]:
        """All of it, for JSON; of the mask only what differs from the default, so that records are as they were."""
        found = {**asdict(self), "trainer": self.trainer.facts, "finetune": self.finetune.facts}
        mask = self.corpus.mask.facts
        del found["corpus"]["mask"]
        return found if not mask else {**found, "corpus": {**found["corpus"], "mask": mask}}


def require_vectors(site: Site) -> None:
    """Refuse a site that has something else than one vector a token: heads apart, patterns, scales of norms."""
    words = "a site with one vector a token, such as resid_post.3, mlp_out.3 or z.3 (heads side by side)"
    require(site.facts.holds_dictionary, words, site)


def learning_rate(peak: float, warm_up: float, decay: float, step: int, steps: int) -> float:
    """The rate of `step` of `steps`: linear up over the first share, flat, linear to 0 over the last share."""
    up = min(1.0, (step + 1) / max(1.0, warm_up * steps))
    down = min(1.0, (steps - step) / max(1.0, decay * steps))
    return peak * min(up, down)
