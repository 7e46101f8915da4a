"""Every setting of training, documented in place."""

from dataclasses import dataclass, field

from gossamer.errors import UsageError

OBJECTIVES = ("batchtopk", "topk")


def _require(condition: bool, expected: str, found: object) -> None:
    if not condition:
        raise UsageError(f"training settings: expected {expected}, found {found}")


@dataclass(frozen=True)
class CorpusConfig:
    """What the dictionaries learn from.

    Attributes:
        context: tokens of a row, BOS included; a longer text becomes several rows.
        bos: share of the rows that begin with BOS, 0 to 1. The BOS position itself is never learned from, and it is
            passed through untouched when dictionaries are spliced in.
        held_out: share of the texts kept aside for what the dictionaries claim of themselves.
        sample_tokens: tokens to sample from the model itself and add to the text; 0 for none.
        sample_prefix: longest beginning of a text that a sample continues, in tokens; each sample draws its own length
            from 0 (BOS alone, where the tokenizer has one) to this.
        sample_batch: samples drawn at once; one file each.
    """

    context: int = 64
    bos: float = 0.5
    held_out: float = 0.02
    sample_tokens: int = 0
    sample_prefix: int = 8
    sample_batch: int = 256

    def __post_init__(self) -> None:
        _require(self.context >= 2, "context of at least 2 tokens", self.context)
        _require(0 <= self.bos <= 1, "bos between 0 and 1", self.bos)
        _require(0 < self.held_out < 1, "held_out between 0 and 1", self.held_out)
        _require(self.sample_tokens >= 0, "sample_tokens of at least 0", self.sample_tokens)
        _require(self.sample_prefix >= 1, "sample_prefix of at least 1", self.sample_prefix)
        _require(self.sample_batch >= 1, "sample_batch of at least 1", self.sample_batch)


@dataclass(frozen=True)
class FitConfig:
    """Training on reconstruction, each dictionary by itself.

    Attributes:
        objective: "batchtopk" (k active latents per token on average over a batch, arXiv 2412.06410; at inference one
            threshold, so that an encoder can be restricted to some latents) or "topk" (exactly k, arXiv 2406.04093).
        n_latents: latents of each dictionary.
        k: active latents per token.
        sensitivity: 0 counts errors evenly over directions; up to 1, by how much the model's output minds them (see
            :mod:`gossamer.training.sensitivity`). Not for topk, whose order of latents needs rows of one norm.
        sensitivity_rows: rows from which that is estimated.
        tokens: activations to learn from; more than the corpus has means several epochs.
        batch: activations in one optimiser step.
        buffer: activations captured and shuffled together, at every site (memory: buffer * d_model * sites values).
        reuse: times a buffer is used, in another order each time, before the next is captured.
        capture_rows: rows in one forward pass of the model.
        learning_rate: peak of Adam's learning rate, for activations scaled to unit variance per dimension. Too low is
            the mistake that costs most: at d_model 128, 512 tokens a step and 1,000 steps, 5e-4 left 3.5 times the
            error of 1.5e-2.
        warm_up: share of the steps in which the learning rate rises linearly.
        decay: share of the steps, the last ones, in which it falls linearly to 0.
        clip: largest norm of a step's gradient.
        dead_after: a latent is dead when it has not fired for this many tokens.
        aux_k: dead latents per token that reconstruct the error of the living ones (AuxK).
        aux_weight: weight of that term; 0 switches it off.
        threshold_decay: per step, of the moving average of the smallest activation kept, which becomes the threshold.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of metrics.jsonl.
    """

    objective: str = "batchtopk"
    n_latents: int = 2048
    k: int = 32
    sensitivity: float = 0.9
    sensitivity_rows: int = 512
    tokens: int = 2_000_000
    batch: int = 512
    buffer: int = 131_072
    reuse: int = 1
    capture_rows: int = 16
    learning_rate: float = 1e-2
    warm_up: float = 0.05
    decay: float = 0.5
    clip: float = 1.0
    dead_after: int = 100_000
    aux_k: int = 32
    aux_weight: float = 1 / 32
    threshold_decay: float = 0.99
    checkpoint_every: int = 500
    log_every: int = 100

    def __post_init__(self) -> None:
        _require(self.objective in OBJECTIVES, f"objective of {' or '.join(OBJECTIVES)}", repr(self.objective))
        _require(self.n_latents >= 1, "n_latents of at least 1", self.n_latents)
        _require(1 <= self.k <= self.n_latents, f"k from 1 to n_latents={self.n_latents}", self.k)
        _require(0 <= self.sensitivity <= 0.99, "sensitivity between 0 and 0.99", self.sensitivity)
        evenly = self.sensitivity == 0 or self.objective != "topk"
        _require(evenly, "sensitivity of 0 with the objective topk", self.sensitivity)
        _require(self.sensitivity_rows >= 1, "sensitivity_rows of at least 1", self.sensitivity_rows)
        _require(self.batch >= 1, "batch of at least 1", self.batch)
        _require(self.tokens >= self.batch, f"tokens of at least one batch ({self.batch})", self.tokens)
        _require(self.buffer >= self.batch, f"buffer of at least one batch ({self.batch})", self.buffer)
        _require(self.reuse >= 1, "reuse of at least 1", self.reuse)
        _require(self.capture_rows >= 1, "capture_rows of at least 1", self.capture_rows)
        _require(self.learning_rate > 0, "a positive learning_rate", self.learning_rate)
        _require(0 <= self.warm_up <= 1 and 0 <= self.decay <= 1, "warm_up and decay between 0 and 1", self)
        _require(self.aux_k >= 1, "aux_k of at least 1", self.aux_k)
        _require(self.checkpoint_every >= 1 and self.log_every >= 1, "checkpoint_every and log_every from 1", self)

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
        warm_up, decay: as in :class:`FitConfig`.
        clip: largest norm of a step's gradient.
        logit_error: weight of the squared error of the logits (a share of their variance), beside the KL in nats.
        reconstruction: weight of the unexplained variance of the model's own activations (mean over sites).
        threshold_decay: per step, of the moving average of the smallest activation kept, which becomes the threshold.
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
    threshold_decay: float = 0.98
    checkpoint_every: int = 50
    log_every: int = 20

    def __post_init__(self) -> None:
        _require(self.tokens >= 0, "tokens of at least 0", self.tokens)
        _require(self.rows >= 1, "rows of at least 1", self.rows)
        _require(0 < self.positions <= 1, "positions above 0, at most 1", self.positions)
        _require(self.learning_rate > 0, "a positive learning_rate", self.learning_rate)
        _require(0 <= self.warm_up <= 1 and 0 <= self.decay <= 1, "warm_up and decay between 0 and 1", self)
        _require(self.checkpoint_every >= 1 and self.log_every >= 1, "checkpoint_every and log_every from 1", self)


@dataclass(frozen=True)
class TrainingConfig:
    """The whole way from text to dictionaries.

    Attributes:
        corpus: what they learn from.
        fit: the training of each on reconstruction.
        finetune: the training of all on the model's logits.
        seed: of weights, samples and the order of the data.
    """

    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    seed: int = 0


def learning_rate(peak: float, warm_up: float, decay: float, step: int, steps: int) -> float:
    """The rate of `step` of `steps`: linear up over the first share, flat, linear to 0 over the last share."""
    up = min(1.0, (step + 1) / max(1.0, warm_up * steps))
    down = min(1.0, (steps - step) / max(1.0, decay * steps))
    return peak * min(up, down)
