"""The memory benchmark's formulas against what a small network really keeps and allocates."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import Gemma2Config, Gemma2ForCausalLM

from gossamer.circuits.ablation import Ablation, SiteAblation
from gossamer.circuits.attribution import attribution_patching
from gossamer.circuits.candidates import candidates
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.outputs import last_stream
from gossamer.circuits.splice import Splice
from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.model import LanguageModel, Site
from gossamer.model.inputs import gathered
from gossamer.replacement.replacement_model import frozen_weights
from gossamer.tasks.prompt import Piece, Prompt
from gossamer.tasks.prompt_pairs import PromptPairs, TokenizedPrompts
from gossamer.tokens import Tokens

POSITIONS, N_SITES = 16, 3


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    folder = Path(__file__).parents[1] / "benchmarks"
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("circuit_memory", folder / "circuit_memory.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def splice(batch: int, d: int, n: int, columns: int) -> Splice:
    """Gemma 2 in bfloat16 with a float32 dictionary after each of its first layers; `columns` candidates a role."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=300, hidden_size=d, intermediate_size=2 * d, num_hidden_layers=N_SITES + 1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, pad_token_id=None,
    )  # fmt: skip
    model = LanguageModel.load(Gemma2ForCausalLM(config).to(torch.bfloat16).eval())
    roles = torch.arange(POSITIONS).repeat(batch, 1) - 1
    tokens = Tokens.full(torch.randint(3, 300, roles.shape))
    encoded = TokenizedPrompts(tokens, roles, roles, torch.full((batch,), POSITIONS - 1))
    prompt = Prompt((Piece("a"),), (Piece("b"),), "x", "y", "t")
    answers = torch.zeros(batch, dtype=torch.long)
    examples = PromptPairs(encoded, encoded, answers, answers + 1, (prompt,) * batch, True)
    sites = [Site("resid_post", layer) for layer in range(N_SITES)]
    dictionaries = {site: Dictionary(DictionaryConfig("jumprelu", d, n, site=site)) for site in sites}
    for parameter in (p for dictionary in dictionaries.values() for p in dictionary.parameters()):
        parameter.data = 0.1 * torch.randn(parameter.shape)
        parameter.requires_grad_(False)
    ablation = {site: SiteAblation(torch.rand(POSITIONS, n), torch.rand(POSITIONS, d)) for site in sites}
    grid = torch.zeros(POSITIONS, n, dtype=torch.bool)
    grid[:, :columns] = True
    nodes = Nodes.from_grids(sites, [f"r{number}" for number in range(POSITIONS)], [grid] * N_SITES)
    made = Splice.of(model, dictionaries, examples, Ablation("mean", "mean", ablation), nodes, batch_size=batch)
    made.batch(slice(None))
    return made


def kept(benchmark: ModuleType, network: Splice) -> tuple[float, float]:
    """Bytes that autograd keeps of the model's own layers, and over those of the network with dictionaries."""
    weights = [*network.model.hf.parameters(), *(p for d in network.dictionaries.values() for p in d.parameters())]
    ours = {p.untyped_storage()._cdata for p in weights}
    mask = torch.ones(len(network.nodes), requires_grad=True)
    with benchmark.counting(ours) as spliced:
        logits = network(mask)
    batch = network.batch(slice(None))
    stream = batch.stream.clone().requires_grad_()
    with benchmark.counting(ours) as plain, frozen_weights(network.model.hf):
        start, last = network.prompts.network.start, last_stream(network.model)
        ends = network.model.capture(batch.tokens, [last], start=(start, stream))[last]
        own = network.model.unembed(gathered(ends, batch.answer_position))
    assert logits.shape == own.shape
    layers = float(sum(plain.values()))
    return layers, sum(spliced.values()) - layers


def peak(work: Callable[[], object]) -> int:
    """Most bytes allocated at once on the CPU, over what there was before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = top = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        top = max(top, now)
    return top


@pytest.mark.parametrize(("batch", "d", "n", "columns"), [(8, 64, 512, 200), (16, 128, 512, 300), (8, 64, 2048, 100)])
def test_what_the_dictionaries_make_autograd_keep(
    benchmark: ModuleType, batch: int, d: int, n: int, columns: int
) -> None:
    network = splice(batch, d, n, columns)
    sizes = (N_SITES, batch * POSITIONS, columns, d, len(network.nodes))
    masked = benchmark.dictionaries_kept(*sizes)
    assert kept(benchmark, network)[1] == pytest.approx(masked, rel=0.02)
    whole = benchmark.dictionaries_kept(*sizes, n)
    assert kept(benchmark, network.with_nodes(network.nodes, non_nodes="kept"))[1] == pytest.approx(whole, rel=0.02)
    assert whole > 1.2 * masked


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "n"), [(16, 2048), (8, 4096)])
def test_no_stage_allocates_more_than_is_stated(benchmark: ModuleType, batch: int, n: int) -> None:
    network = splice(batch, 64, n, 256)
    tokens, nodes = batch * POSITIONS, len(network.nodes)
    stated = benchmark.candidates_peak(N_SITES, tokens, n, POSITIONS)
    # Of its own prompts, so that their stream is measured too.
    fresh = Splice.of(
        network.model, network.dictionaries, network.examples, network.ablation, network.nodes.none(), batch_size=batch
    )
    found = peak(lambda: candidates(fresh))
    assert 0.8 * stated < found < stated
    layers, _ = kept(benchmark, network)
    inside = benchmark.dictionaries_kept(N_SITES, tokens, 256, 64, nodes, n)
    stated = layers + inside + benchmark.working(tokens, n, nodes, 64)
    assert 0.8 * stated < peak(lambda: attribution_patching(network)) < stated


def test_the_peak_is_what_stays_and_the_largest_stage(benchmark: ModuleType, capsys: pytest.CaptureFixture) -> None:
    config = benchmark.shape(2)
    stays, stages = (
        benchmark.resident(config, benchmark.Sizes(positions=8)),
        benchmark.transient(config, benchmark.Sizes(positions=8)),
    )
    assert stays["the model's last streams, 2 x 512 prompts"] == 2 * 512 * 3584 * 2
    assert stays["4 dictionaries of 16,384, float32"] > 4 * 2 * 3584 * 16_384 * 4
    assert [name.partition(",")[0] for name in stages] == [
        "candidates",
        "attribution patching",
        "mask search",
        "measuring a circuit",
    ]
    equal = benchmark.transient(config, benchmark.Sizes(positions=8, batch=16))
    assert equal["attribution patching, 16 prompts"] > equal["mask search, 16 prompts"]
    assert {"attribution patching, 16 prompts", "mask search, 32 prompts"} < set(stages)
    assert "attribution patching, 4 prompts" in benchmark.transient(config, benchmark.Sizes(positions=8, batch=4))
