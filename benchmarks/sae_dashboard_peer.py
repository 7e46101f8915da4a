"""SAEDashboard at work on a dictionary: `store.py` has it run by the Python of an environment that has sae-dashboard.

A folder has `model` (a GPT-2 as transformers writes it), `dictionary` (as SAELens writes it), `tokens.npy` (rows of
ids) and `request.json` ({"site", "batches"}). It goes the way of the library's own runner for Neuronpedia: its layout,
128 latents at a time, activations of the model cached on disk by the first batch. It writes `found.json`: seconds of
every batch of latents, and the density of each latent. What else comes out is kept in memory; nothing is written of it.
"""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sae_dashboard.components_config import (
    ActsHistogramConfig,
    Column,
    FeatureTablesConfig,
    LogitsHistogramConfig,
    LogitsTableConfig,
    SequencesConfig,
)
from sae_dashboard.layout import SaeVisLayoutConfig
from sae_dashboard.sae_vis_data import SaeVisConfig
from sae_dashboard.sae_vis_runner import SaeVisRunner
from sae_lens import SAE, HookedSAETransformer
from transformer_lens import HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import AutoModelForCausalLM, AutoTokenizer

# Of the runner for Neuronpedia.
AT_A_TIME, ROWS_AT_A_TIME = 128, 32


def main(folder: Path) -> None:
    """Time the batches and write what was found."""
    torch.set_num_threads(1)
    asked = json.loads((folder / "request.json").read_text())
    model, sae = hooked(folder / "model"), SAE.load_from_disk(folder / "dictionary", device="cpu")
    tokens = torch.from_numpy(np.load(folder / "tokens.npy"))
    seconds, density = [], {}
    with tempfile.TemporaryDirectory() as cache:
        for number in range(asked["batches"]):
            features = list(range(number * AT_A_TIME, (number + 1) * AT_A_TIME))
            start = time.process_time()
            found = SaeVisRunner(config(asked["site"], features, Path(cache))).run(sae, model, tokens)
            seconds.append(time.process_time() - start)
            density |= dict(zip(features, found.feature_stats.frac_nonzero, strict=True))
    (folder / "found.json").write_text(json.dumps({"seconds": seconds, "at_a_time": AT_A_TIME, "density": density}))


def hooked(path: Path) -> HookedSAETransformer:
    """The model with TransformerLens's hooks, weights as they are."""
    hf = AutoModelForCausalLM.from_pretrained(path)
    facts = hf.config
    cfg = HookedTransformerConfig(
        n_layers=facts.n_layer,
        d_model=facts.n_embd,
        n_ctx=facts.n_positions,
        n_heads=facts.n_head,
        d_head=facts.n_embd // facts.n_head,
        d_mlp=facts.n_inner or 4 * facts.n_embd,
        d_vocab=facts.vocab_size,
        act_fn=facts.activation_function,
        eps=facts.layer_norm_epsilon,
        normalization_type="LN",
        device="cpu",
    )
    made = HookedSAETransformer(cfg, tokenizer=AutoTokenizer.from_pretrained(path))
    made.load_state_dict(convert_gpt2_weights(hf, cfg), strict=False)
    return made


def config(site: str, features: list[int], cache: Path) -> SaeVisConfig:
    """What the runner for Neuronpedia asks for."""
    sequences = SequencesConfig(
        stack_mode="stack-all",
        buffer=None,
        compute_buffer=True,
        n_quantiles=5,
        top_acts_group_size=20,
        quantile_group_size=5,
    )
    logits = (LogitsHistogramConfig(), LogitsTableConfig(), FeatureTablesConfig(n_rows=3))
    layout = SaeVisLayoutConfig(columns=[Column(sequences, ActsHistogramConfig(), *logits)])
    return SaeVisConfig(
        hook_point=site,
        features=features,
        minibatch_size_features=AT_A_TIME,
        minibatch_size_tokens=ROWS_AT_A_TIME,
        feature_centric_layout=layout,
        cache_dir=cache,
    )
