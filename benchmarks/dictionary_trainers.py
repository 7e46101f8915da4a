"""Who trains a dictionary in `train_dictionary.py`: gossamer and the other libraries, each driven by its own step.

Every trainer takes the same batches, learns with float32 Adam at one constant rate, clips as its library does, and
starts with decoder rows of norm 1. A latent is dead after the same number of tokens for all.
"""

import contextlib
import io
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Work:
    """What is to be trained."""

    objective: str
    d: int
    latents: int
    k: int
    batch: int
    steps: int
    rate: float
    dead_after: int
    precision: str = "float32"
    encoder_scale: float = 1.0


class Trainer(ABC):
    """One dictionary in training."""

    @abstractmethod
    def step(self, x: Tensor) -> None:
        """Learn from a batch."""

    @abstractmethod
    def reconstruct(self, x: Tensor) -> Tensor:
        """What the dictionary makes of a batch, by the rule of training."""

    def explained_variance(self, x: Tensor) -> float:
        """1 - |x - reconstruction|^2 / |x - mean|^2, sums over the batch."""
        with torch.no_grad():
            error = (x - self.reconstruct(x)).double().square().sum()
        return float(1 - error / (x - x.mean(dim=0)).double().square().sum())


class Ours(Trainer):
    """gossamer."""

    def __init__(self, work: Work, first: Tensor) -> None:
        from gossamer.model import Site
        from gossamer.training.config import DictionarySpec, DictionaryTrainerConfig, OptimiserConfig
        from gossamer.training.dictionary_trainer import DictionaryTrainer
        from gossamer.training.objectives import BatchTopK, TopK

        objective = {"topk": TopK, "batchtopk": BatchTopK}[work.objective](k=work.k)
        optimiser = OptimiserConfig(learning_rate=work.rate, warm_up=0.0, decay=0.0)
        start = {"encoder_scale": work.encoder_scale, "dead_after": work.dead_after}
        config = DictionaryTrainerConfig(work.latents, objective, None, optimiser, sensitivity=0.0, **start)
        self.trainer = DictionaryTrainer.begin(
            DictionarySpec("benchmark", Site("resid_post", 0), None, config), work.steps, first
        )
        self.done = 0

    def step(self, x: Tensor) -> None:
        """See :class:`Trainer`."""
        self.trainer.step(x, None, self.done)
        self.done += 1

    def reconstruct(self, x: Tensor) -> Tensor:
        """Not asked for: see `explained_variance`."""
        raise NotImplementedError

    def explained_variance(self, x: Tensor) -> float:
        """As for the others: the trainer's units are the activations', shifted and scaled."""
        return float(self.trainer.gradients(x, None, self.done).averaged["explained_variance"])


class SAELens(Trainer):
    """SAELens; `sparse` is its option to keep TopK activations as sparse tensors."""

    sparse = False

    def __init__(self, work: Work, first: Tensor) -> None:
        from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, TopKTrainingSAE, TopKTrainingSAEConfig
        from sae_lens.config import SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        common = {"d_in": work.d, "d_sae": work.latents, "k": work.k, "decoder_init_norm": 1.0}
        if work.objective == "topk":
            # Its default, to rescale by the decoder's norms, has no way back through sparse tensors.
            how = {"use_sparse_activations": self.sparse, "rescale_acts_by_decoder_norm": not self.sparse}
            sae = TopKTrainingSAE(TopKTrainingSAEConfig(**common, **how))
        else:
            sae = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**common))
        config = SAETrainerConfig(
            total_training_samples=work.steps * work.batch,
            train_batch_size_samples=work.batch,
            lr=work.rate,
            lr_end=work.rate,
            device=str(first.device),
            dead_feature_window=work.dead_after // work.batch,
        )
        self.trainer = SAETrainer(config, sae.to(first.device), iter(()))

    def step(self, x: Tensor) -> None:
        """See :class:`Trainer`."""
        self.trainer.step(x)
        self.trainer.n_training_steps += 1

    def reconstruct(self, x: Tensor) -> Tensor:
        """See :class:`Trainer`."""
        sae = self.trainer.sae
        return sae.decode(sae.encode(x))


class SAELensSparse(SAELens):
    """With sparse tensors."""

    sparse = True


class Sparsify(Trainer):
    """sparsify: its coder, and the step of its trainer (which wants a language model) with Adam as the optimiser."""

    def __init__(self, work: Work, first: Tensor) -> None:
        if first.device.type == "cpu":
            # Where there is Triton it is used on a CPU as well, and fails.
            os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
        with contextlib.redirect_stdout(io.StringIO()):
            from sparsify.config import SparseCoderConfig
            from sparsify.sparse_coder import SparseCoder
        self.coder = SparseCoder(work.d, SparseCoderConfig(num_latents=work.latents, k=work.k), first.device)
        self.coder.b_dec.data = first[: work.batch].mean(dim=0)
        self.adam = torch.optim.Adam(self.coder.parameters(), lr=work.rate)
        self.dead_after = work.dead_after
        self.tokens_since_fired = torch.zeros(work.latents, dtype=torch.long, device=first.device)

    def step(self, x: Tensor) -> None:
        """See :class:`Trainer`."""
        coder = self.coder
        coder.set_decoder_norm_to_unit_norm()
        out = coder(x, dead_mask=self.tokens_since_fired > self.dead_after)
        (out.fvu + out.auxk_loss / 32).backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        self.adam.step()
        self.adam.zero_grad()
        self.tokens_since_fired += len(x)
        self.tokens_since_fired[out.latent_indices.flatten()] = 0

    def reconstruct(self, x: Tensor) -> Tensor:
        """See :class:`Trainer`."""
        return self.coder(x).sae_out


class DictionaryLearning(Trainer):
    """dictionary_learning."""

    def __init__(self, work: Work, first: Tensor) -> None:
        from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
        from dictionary_learning.trainers.top_k import TopKTrainer

        kind = {"topk": TopKTrainer, "batchtopk": BatchTopKTrainer}[work.objective]
        sizes = {"steps": work.steps, "activation_dim": work.d, "dict_size": work.latents, "k": work.k}
        named = {"layer": 0, "lm_name": "none", "device": str(first.device)}
        self.trainer = kind(**sizes, **named, lr=work.rate, warmup_steps=0, threshold_start_step=0)
        self.trainer.dead_feature_threshold = work.dead_after
        self.batch_rule = {} if work.objective == "topk" else {"use_threshold": False}
        self.done = 0

    def step(self, x: Tensor) -> None:
        """See :class:`Trainer`."""
        self.trainer.update(self.done, x)
        self.done += 1

    def reconstruct(self, x: Tensor) -> Tensor:
        """See :class:`Trainer`."""
        return self.trainer.ae.decode(self.trainer.ae.encode(x, **self.batch_rule))


class Floor(Trainer):
    """No training: the encoder's product alone, which every one of them does."""

    def __init__(self, work: Work, first: Tensor) -> None:
        self.W_enc = torch.randn(work.d, work.latents, device=first.device)

    def step(self, x: Tensor) -> None:
        """See :class:`Trainer`."""
        x @ self.W_enc

    def reconstruct(self, x: Tensor) -> Tensor:
        """Nothing."""
        return torch.zeros_like(x)


OURS, FLOOR, SPARSE = "gossamer", "encoder product alone", "SAELens, sparse"
TRAINERS: dict[str, type[Trainer]] = {
    OURS: Ours,
    "SAELens": SAELens,
    SPARSE: SAELensSparse,
    "sparsify": Sparsify,
    "dictionary_learning": DictionaryLearning,
    FLOOR: Floor,
}
PEERS = {
    "topk": ("SAELens", SPARSE, "sparsify", "dictionary_learning"),
    "batchtopk": ("SAELens", "dictionary_learning"),
}
