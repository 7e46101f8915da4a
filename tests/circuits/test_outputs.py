"""Logits of the answers alone against those of the whole vocabulary, in half precision too; what is kept of them."""

import copy
from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from circuit_lab import all_nodes, mirror_dictionary, random_ablation, random_choice, random_dictionary, sites_of
from torch import Tensor, nn
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from gossamer.circuits import outputs as outputs_module
from gossamer.circuits.ablation import Ablation
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.outputs import Outputs, measured
from gossamer.circuits.splice import Splice
from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.metric import METRICS, kl_divergence
from gossamer.tasks.prompt_pairs import PromptPairs
from gossamer.tasks.task import Task

VOCAB = 3001
COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def several(examples: PromptPairs, name: str) -> PromptPairs:
    """Two more right answers in every second prompt, and one more wrong answer."""
    n = len(examples)
    more = torch.stack([torch.arange(n) % 30, torch.where(torch.arange(n) % 2 == 0, (torch.arange(n) + 7) % 30, -1)], 1)
    return replace(examples, metric=METRICS[name], also_correct=more, also_incorrect=(more[:, :1] + 11) % 30)


@pytest.mark.parametrize("name", ["logit_diff", "logit_margin", "prob_diff"])
def test_a_metric_is_that_of_the_whole_vocabulary(model: LanguageModel, task: Task, name: str) -> None:
    examples, rows = several(task.test, name), torch.tensor([5, 0, 3, 6])
    stream = torch.randn(4, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = Outputs(stream, model.unembed)
    torch.testing.assert_close(measured(found, examples, rows), examples.measure(model.unembed(stream), rows))
    gathered = found.logits().gather(1, examples.answer_ids(rows).clamp(min=0))
    torch.testing.assert_close(found.answer_logits(examples, rows), gathered)


def test_blocks_cover_every_prompt_once(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Outputs(torch.zeros(7, 16, dtype=torch.float64), model.unembed)
    monkeypatch.setattr(outputs_module, "BLOCK_VALUES", 3 * 30 + 1)
    assert list(found.blocks()) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    monkeypatch.setattr(outputs_module, "BLOCK_VALUES", 1)
    assert [block.stop - block.start for block in found.blocks()] == [1] * 7


def test_divergences_block_by_block(model: LanguageModel, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = sites_of("resid_post.1")
    dictionaries = {site: random_dictionary(site) for site in sites}
    splice = Splice.of(model, dictionaries, task.test, random_ablation(sites), all_nodes(dictionaries), batch_size=5)
    circuit = random_choice(splice.nodes, 20)
    monkeypatch.setattr(outputs_module, "BLOCK_VALUES", 2 * 30)
    found = Evaluator(splice).prompt_metrics(circuit)
    own = model.logits(task.test.clean.tokens, at=task.test.clean.answer_position)
    logits = splice.with_nodes(circuit)(torch.ones(len(circuit)))
    torch.testing.assert_close(found.kl, kl_divergence(own.float().log_softmax(dim=1), logits), rtol=1e-4, atol=1e-6)
    assert torch.equal(found.top1, logits.argmax(dim=1) == task.test.answer)


def wide(family: str, task: Task) -> tuple[LanguageModel, Task]:
    """A tiny model of a wide vocabulary in float32, with the answers that it likes best and least."""
    torch.manual_seed(0)
    if family == "gemma3":
        layers = ["sliding_attention", "full_attention", "sliding_attention"]
        hf: nn.Module = Gemma3ForCausalLM(
            Gemma3TextConfig(**COMMON, head_dim=16, sliding_window=8, query_pre_attn_scalar=16, layer_types=layers)
        )
    else:
        hf = LlamaForCausalLM(LlamaConfig(**COMMON))
    model = LanguageModel.load(hf.eval())

    def answered(examples: PromptPairs) -> PromptPairs:
        with torch.no_grad():
            own = model.logits(examples.clean.tokens, at=examples.clean.answer_position)
            other = model.logits(examples.counterfactual.tokens, at=examples.counterfactual.answer_position)
        change = own - other
        return replace(examples, answer=change.argmax(dim=1), incorrect=change.argmin(dim=1))

    return model, replace(task, train=answered(task.train), test=answered(task.test))


def mirror(site: Site, width: int) -> Dictionary:
    """A dictionary without error in a stream of any width."""
    made = Dictionary(DictionaryConfig("relu", width, 2 * width, site=site))
    axes = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(1))).Q
    made.W_enc.data, made.W_dec.data = torch.cat([axes, -axes], dim=1), torch.cat([axes.T, -axes.T])
    for bias in (made.b_enc, made.b_dec):
        nn.init.zeros_(bias)
    return made.requires_grad_(False)


@pytest.mark.parametrize("family", ["gemma3", "llama"])
def test_bfloat16_agrees_with_float32_in_faithfulness(task: Task, family: str) -> None:
    model, task = wide(family, task)
    half = LanguageModel.load(copy.deepcopy(model.hf).to(torch.bfloat16))
    site = Site("resid_post", 1)
    found = []
    for network in (model, half):
        dictionaries = {site: mirror(site, 64)}
        ablation = Ablation.measure(network, dictionaries, task)
        splice = Splice.of(network, dictionaries, task.test, ablation, all_nodes(dictionaries))
        evaluator = Evaluator(splice)
        # By first-order effect nothing is chosen here: both networks are given the same circuits.
        circuits = [random_choice(splice.nodes, count) for count in (100, 300, 500)]
        found.append([evaluator.kept(circuit) for circuit in circuits])
        assert evaluator.full.prompt_metrics.metric.dtype == torch.float32
    assert found[1] == pytest.approx(found[0], abs=1e-2)
    assert max(found[0]) - min(found[0]) > 0.1


def test_answers_are_not_rounded_as_half_precision_rounds_logits(task: Task) -> None:
    model, task = wide("llama", task)
    half = LanguageModel.load(copy.deepcopy(model.hf).to(torch.bfloat16))
    stream = 3 * torch.randn(8, 64, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16)
    found, rows = Outputs(stream, half.unembed), slice(0, 8)
    normed = half.anatomy.norm(stream).float()
    weight = half.hf.lm_head.weight.float()
    exact = (normed * (weight[task.test.answer] - weight[task.test.incorrect])).sum(dim=1)
    torch.testing.assert_close(measured(found, task.test, rows), exact, rtol=1e-4, atol=1e-4)
    rounded = task.test.measure(found.logits(), rows)
    assert (rounded - exact).abs().max() > 1e-3


def tensors(value: object) -> list[Tensor]:
    """Every tensor that an object of dataclasses holds."""
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value) and not isinstance(value, type):
        return [one for part in fields(value) for one in tensors(getattr(value, part.name))]
    return [one for part in value for one in tensors(part)] if isinstance(value, tuple) else []


def test_nothing_of_the_size_of_the_vocabulary_is_kept(task: Task) -> None:
    model, task = wide("llama", task)
    dictionaries = {Site("resid_post", 1): mirror(Site("resid_post", 1), 64)}
    ablation = Ablation.measure(model, dictionaries, task)
    splice = Splice.of(model, dictionaries, task.test, ablation, all_nodes(dictionaries))
    kept = tensors(Evaluator(splice).full)
    assert len(kept) > 5
    assert all(VOCAB not in one.shape for one in kept)


def test_a_mirror_has_no_error() -> None:
    site = Site("resid_post", 1)
    x = torch.randn(5, 16, dtype=torch.float64)
    torch.testing.assert_close(mirror_dictionary(site)(x), x)
    y = torch.randn(5, 64)
    torch.testing.assert_close(mirror(site, 64)(y), y, rtol=1e-4, atol=1e-5)
