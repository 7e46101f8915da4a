"""Write the golden files of this folder with the libraries whose formats they are.

Needs eai-sparsify 1.3.3 and dictionary-learning 0.1.0, the latter without its dependencies: only the classes that save
and evaluate are used, so that nnsight may be missing. Weights are random with a fixed seed; beside each saved
dictionary lie the inputs and what the library itself makes of them.

    python tests/dictionary/golden/make.py
"""

import json
import sys
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
D_IN, N_LATENTS, K, NORM_FACTOR = 8, 24, 5, 3.25
RUN = {"steps": 10_000, "activation_dim": D_IN, "dict_size": N_LATENTS, "layer": 1, "lm_name": "EleutherAI/pythia-14m"}
PLACE = {"submodule_name": "resid_post_layer_1", "device": "cpu"}


def drawn(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The module with every parameter random, so that no convention hides behind a zero or a unit norm."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            values = torch.randn(parameter.shape, generator=generator) * 0.4
            parameter.copy_(values.abs() + 0.1 if name == "threshold" else values)
    return module


def inputs() -> torch.Tensor:
    """Activations of 7 tokens with a mean that is not zero."""
    return torch.randn(7, D_IN, generator=torch.Generator().manual_seed(11)) * 1.5 + 0.3


def keep(folder: Path, latents: torch.Tensor, x_hat: torch.Tensor) -> None:
    """Write what the library made of the inputs."""
    save_file(
        {"x": inputs(), "latents": latents.contiguous(), "x_hat": x_hat.contiguous()}, folder / "golden.safetensors"
    )


def sparsify_files() -> None:
    """A dictionary of a layer, two seeds of one, and a transcoder of an MLP."""
    from sparsify import SparseCoder, SparseCoderConfig

    cases = {"layers.1": {}, "layers.2/seed0": {}, "layers.2/seed1": {}, "layers.1.mlp": {"transcode": True}}
    for seed, (place, settings) in enumerate(cases.items()):
        folder = HERE / "sparsify" / place
        config = SparseCoderConfig(num_latents=N_LATENTS, k=K, **settings)
        drawn(SparseCoder(D_IN, config), seed).save_to_disk(folder)
        coder = SparseCoder.load_from_disk(folder)
        with torch.no_grad():
            found = coder.encode(inputs())
            latents = torch.zeros_like(found.pre_acts).scatter(-1, found.top_indices, found.top_acts)
            keep(folder, latents, coder(inputs()).sae_out)


def dictionary_learning_files() -> None:
    """Every class as its trainer leaves it, and as a crashed run leaves it."""
    sys.modules.setdefault("nnsight", ModuleType("nnsight")).LanguageModel = object
    from dictionary_learning.dictionary import AutoEncoderNew
    from dictionary_learning.trainers import batch_top_k, gdm, jumprelu, matryoshka_batch_top_k, standard, top_k

    trainers = {
        "AutoEncoder": standard.StandardTrainer(**RUN, **PLACE),
        "AutoEncoderNew": standard.StandardTrainer(**RUN, **PLACE, dict_class=AutoEncoderNew),
        "GatedAutoEncoder": gdm.GatedSAETrainer(**RUN, **PLACE),
        "JumpReluAutoEncoder": jumprelu.JumpReluTrainer(**RUN, **PLACE),
        "AutoEncoderTopK": top_k.TopKTrainer(**RUN, **PLACE, k=K),
        "BatchTopKSAE": batch_top_k.BatchTopKTrainer(**RUN, **PLACE, k=K),
        "MatryoshkaBatchTopKSAE": matryoshka_batch_top_k.MatryoshkaBatchTopKTrainer(
            **RUN, **PLACE, k=K, group_fractions=[0.25, 0.75]
        ),
    }
    for seed, (name, trainer) in enumerate(trainers.items()):
        drawn(trainer.ae, 20 + seed)
        if hasattr(trainer.ae, "k"):
            trainer.ae.threshold.fill_(0.37)
        # The library writes the name of its own default class, whatever class was trained.
        config = {"trainer": {**trainer.config, "dict_class": name}, "buffer": {"ctx_len": 128, "io": "out"}}
        crashed = {"step": 40, "ae": trainer.ae.state_dict(), "norm_factor": NORM_FACTOR, "config": config["trainer"]}
        written(HERE / "dictionary_learning" / name, config, trainer.ae.state_dict(), trainer.ae)
        if hasattr(trainer.ae, "scale_biases"):
            folder = HERE / "dictionary_learning_crashed" / name
            folder.mkdir(parents=True, exist_ok=True)
            torch.save({**crashed, "optimizer": trainer.optimizer.state_dict()}, folder / "ae.pt")
            trainer.ae.scale_biases(NORM_FACTOR)
            written(folder, config, None, trainer.ae)


def written(folder: Path, config: dict, state: dict | None, dictionary: torch.nn.Module) -> None:
    """Save as the library's training loop does, and keep what its own loader makes of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=4))
    path = folder / ("ae.pt" if state is not None else "scaled.pt")
    torch.save({name: tensor.cpu() for name, tensor in dictionary.state_dict().items()}, path)
    loaded = type(dictionary).from_pretrained(path, device="cpu")
    with torch.no_grad():
        keep(folder, loaded.encode(inputs()), loaded(inputs()))
    if state is None:
        path.unlink()


if __name__ == "__main__":
    sparsify_files()
    dictionary_learning_files()
