"""Write the golden files of this folder with circuit-tracer: its direct effects through transcoders on tiny models.

Needs circuit-tracer 0.5.0 of the package index (a fork of safety-research/circuit-tracer), with transformer-lens 3.2.1.
It wants versions of its own, so give it an environment of its own:

    python -m venv ct && ct/bin/pip install circuit-tracer==0.5.0 && ct/bin/python tests/attention/golden/make.py

Weights are random with a fixed seed. Each folder holds the model as transformers saves it (model/), transcoders of both
layers as circuit-tracer saves them (transcoders/), and graph.safetensors: the prompt and the adjacency matrix, rows the
targets and columns the sources, in the order latents, errors by layer and position, tokens, logits.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import torch
from circuit_tracer.attribution.attribute import attribute
from circuit_tracer.replacement_model.replacement_model_transformerlens import TransformerLensReplacementModel
from circuit_tracer.transcoder.activation_functions import JumpReLU
from circuit_tracer.transcoder.single_layer_transcoder import SingleLayerTranscoder, TranscoderSet
from safetensors.torch import save_file
from transformer_lens import HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions.gpt2 import convert_gpt2_weights
from transformer_lens.pretrained.weight_conversions.llama import convert_llama_weights
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

HERE = Path(__file__).parent
D, HEADS, LAYERS, VOCAB, LATENTS, MLP = 16, 4, 2, 23, 24, 24
TOKENS = [0, 5, 9, 5, 17, 3]
LOGITS = [4, 11, 20]
COMMON = {"n_layers": LAYERS, "d_model": D, "n_ctx": 16, "n_heads": HEADS, "d_head": D // HEADS, "d_vocab": VOCAB}
HF = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0}


def drawn(module: torch.nn.Module, size: float) -> None:
    """Every parameter away from its initial value."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * size)


def gpt2() -> tuple[torch.nn.Module, HookedTransformerConfig, dict]:
    """Layer norms, learned positions, all of a layer's heads with keys of their own."""
    hf = AutoModelForCausalLM.from_config(
        GPT2Config(n_positions=16, n_embd=D, n_layer=LAYERS, n_head=HEADS, n_inner=MLP, **HF)
    ).eval()
    drawn(hf, 0.3)
    config = HookedTransformerConfig(
        **COMMON, d_mlp=MLP, act_fn="gelu_new", normalization_type="LN", model_name="tiny", device="cpu"
    )
    return hf, config, convert_gpt2_weights(hf, config)


def llama() -> tuple[torch.nn.Module, HookedTransformerConfig, dict]:
    """RMS norms, rotary embeddings, two heads to a key."""
    hf = AutoModelForCausalLM.from_config(
        LlamaConfig(
            hidden_size=D,
            intermediate_size=MLP,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=2,
            max_position_embeddings=16,
            pad_token_id=None,
            **HF,
        )
    ).eval()
    drawn(hf, 0.3)
    config = HookedTransformerConfig(
        **COMMON,
        d_mlp=MLP,
        act_fn="silu",
        gated_mlp=True,
        normalization_type="RMS",
        final_rms=True,
        eps=hf.config.rms_norm_eps,
        positional_embedding_type="rotary",
        rotary_dim=D // HEADS,
        rotary_adjacent_pairs=False,
        rotary_base=10000,
        n_key_value_heads=2,
        model_name="tiny",
        device="cpu",
    )
    return hf, config, convert_llama_weights(hf, config)


def transcoders(hf: torch.nn.Module, *, skip: bool) -> TranscoderSet:
    """One for each layer, JumpReLU with thresholds that leave a few latents active, near to what the MLP puts out."""
    put_out = []
    handles = [
        module.register_forward_hook(lambda _, __, out: put_out.append(out[0, 1:].mean(dim=0)))
        for name, module in hf.named_modules()
        if name.endswith(".mlp")
    ]
    with torch.no_grad():
        hf(torch.tensor([TOKENS]))
    for handle in handles:
        handle.remove()
    made = {}
    for layer, mean in enumerate(put_out):
        one = SingleLayerTranscoder(
            D, LATENTS, JumpReLU(torch.zeros(LATENTS), 0.1), layer, skip_connection=skip, dtype=torch.float32
        )
        drawn(one, 0.3)
        with torch.no_grad():
            one.activation_function.threshold.abs_().add_(0.8)
            one.W_dec.mul_(0.2)
            one.b_dec.copy_(mean)
            if skip:
                one.W_skip.mul_(0.2)
        made[layer] = one
    return TranscoderSet(made, "mlp.hook_in", "hook_mlp_out")


def write(name: str, made: tuple[torch.nn.Module, HookedTransformerConfig, dict], *, skip: bool) -> None:
    """One model's folder."""
    hf, config, weights = made
    folder = HERE / name
    hf.save_pretrained(folder / "model")
    (folder / "model" / "generation_config.json").unlink()
    chosen = transcoders(hf, skip=skip)
    (folder / "transcoders").mkdir(exist_ok=True)
    for layer, one in enumerate(chosen):
        one.to_safetensors(str(folder / "transcoders" / f"layer_{layer}.safetensors"))
    stated = "model_kind: transcoder_set\nfeature_input_hook: mlp.hook_in\nfeature_output_hook: hook_mlp_out\n"
    (folder / "transcoders" / "config.yaml").write_text(stated)
    model = TransformerLensReplacementModel(config)
    model.load_state_dict(weights, strict=False)
    tokens = torch.tensor(TOKENS)
    with torch.no_grad():
        apart = (model(tokens.unsqueeze(0)) - hf(tokens.unsqueeze(0)).logits).diff(dim=-1).abs().max()
    model._configure_replacement_model(chosen)
    model.tokenizer = SimpleNamespace(decode=str, vocab_size=VOCAB, all_special_ids=[0], padding_side="right")
    graph = attribute(tokens, model, attribution_targets=torch.tensor(LOGITS), batch_size=16)
    sys.stdout.write(f"{name}: {len(graph.active_features)} latents; logits {float(apart):.1e} apart\n")
    save_file(
        {
            "tokens": tokens,
            "logits": torch.tensor(LOGITS),
            "latents": graph.active_features.contiguous(),
            "activations": graph.activation_values.contiguous(),
            "adjacency": graph.adjacency_matrix.contiguous(),
        },
        folder / "graph.safetensors",
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    write("gpt2", gpt2(), skip=True)
    write("llama", llama(), skip=False)
