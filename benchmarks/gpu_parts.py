"""The parts of `gpu.py`: each makes its own data, measures on the device that there is, and returns rows."""

import importlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import circuit_memory
import torch
import train_dictionary
from edit_overhead import medians
from rows import Row, row
from settings import REAL
from torch import Tensor
from transformers import Gemma2Config, Gemma2ForCausalLM

from gossamer.bundled.corpus import texts as bundled_texts
from gossamer.circuits.ablation import Ablation, SiteAblation
from gossamer.circuits.find import find_circuit
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.prompt_metrics import FullModel
from gossamer.circuits.search import SearchSettings, search_path
from gossamer.circuits.splice import Splice
from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.errors import GossamerError
from gossamer.model import LanguageModel, Site
from gossamer.sparse.backend import runs_kernels
from gossamer.sparse.latents import SparseLatents
from gossamer.tasks import get
from gossamer.tasks.prompt import Piece, Prompt
from gossamer.tasks.prompt_pairs import PromptPairs, TokenizedPrompts
from gossamer.tokens import Tokens
from gossamer.training import read_texts, train_dictionaries
from gossamer.training.chosen import ChosenLatents, ChosenMask, choose_topk
from gossamer.training.config import CorpusConfig, DictionaryTrainerConfig, FinetuneConfig, FitConfig, TrainingConfig
from gossamer.training.objectives import BatchTopK

GB, MS = 1e9, 1e3
# Seconds a step that Caples et al. 2025 report for Gemma 2 9B on an A100, in float32.
PUBLISHED = (0.38, 3.3)
MODELS = ("SmolLM2-135M-Instruct", "SmolLM2-135M")


@dataclass(frozen=True)
class Scale:
    """How large the parts are.

    Attributes:
        kernels: (tokens, d, latents, k) of each comparison of kernels with masks.
        trainers: options of train_dictionary.py.
        gemma: the model's configuration, and what its search is.
        steps: of the mask search.
        layers, width: of the JAX model.
        tokens: that the dictionaries of the whole path learn from.
        repeats: of what takes milliseconds.
    """

    name: str
    kernels: Sequence[tuple[int, int, int, int]]
    trainers: Sequence[str]
    gemma: Gemma2Config
    search: circuit_memory.Sizes
    steps: int
    layers: int
    width: int
    tokens: int
    repeats: int


_TINY = Scale(
    name="dry-run",
    kernels=[(16, 24, 40, 3)],
    trainers=[
        *("--d", "16", "--latents", "64", "--k", "4", "--batch", "64", "--turns", "2", "--steps", "1"),
        *("--objective", "topk", "--precision", "float32", "--peer", "sparsify"),
    ],
    gemma=Gemma2Config(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=5,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        pad_token_id=None,
    ),
    search=circuit_memory.Sizes(
        sites=(0, 1, 2, 3), latents=256, prompts=8, splits=1, ablation_groups=8, columns=64, positions=8, batch=8
    ),
    steps=3,
    layers=4,
    width=16,
    tokens=4_096,
    repeats=2,
)
_FULL = Scale(
    name="full",
    kernels=[(4096, 768, 16_384, 32), (4096, 2304, 65_536, 64)],
    trainers=["--batch", "8192", "--turns", "8", "--steps", "10"],
    gemma=circuit_memory.shape(42),
    search=circuit_memory.Sizes(splits=1, ablation_groups=32),
    steps=40,
    layers=48,
    width=2048,
    tokens=2_000_000,
    repeats=20,
)
_QUICK = replace(
    _FULL,
    name="quick",
    kernels=_FULL.kernels[:1],
    trainers=["--batch", "8192", "--turns", "5", "--steps", "5"],
    steps=15,
    layers=24,
    width=1024,
    tokens=500_000,
    repeats=8,
)
SCALES = {one.name: one for one in (_FULL, _QUICK, _TINY)}


def device() -> torch.device:
    """CUDA where there is any."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def peak_of(work: Callable[[], Any]) -> float:
    """Bytes: the most that the GPU holds while the work is done, what was there before with it; 0 on a CPU."""
    if not torch.cuda.is_available():
        work()
        return 0.0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return float(torch.cuda.max_memory_allocated())


# Triton's kernels beside masks.


def kernels(scale: Scale, model: Path | None) -> list[Row]:
    """A TopK layer forward and backward, through sparse products and through masks: time, memory and values."""
    if device().type == "cuda" and not runs_kernels(device()):
        raise GossamerError("Triton does not run on this GPU: nothing to compare; see the warning above")
    layers = [found for sizes in scale.kernels for found in _layer(*sizes, scale.repeats)]
    return [*layers, *_products(64, 96, 200)]


def _layer(tokens: int, d: int, latents: int, k: int, repeats: int) -> list[Row]:
    generator = torch.Generator(device()).manual_seed(0)
    W_dec = torch.randn(latents, d, device=device(), generator=generator)
    W_dec /= W_dec.norm(dim=1, keepdim=True)
    p = {"W_enc": W_dec.t().clone(), "b_enc": torch.zeros(latents, device=device()), "W_dec": W_dec}
    p = {name: value.requires_grad_() for name, value in p.items()}
    x = torch.randn(tokens, d, device=device(), generator=generator)

    def gradients(choose: Callable[..., ChosenLatents], p: dict[str, Tensor], x: Tensor) -> list[Tensor]:
        out = choose(p, x, k).reconstruct(p, x)
        return [out, *torch.autograd.grad((out - x).square().mean(), list(p.values()))]

    def ours() -> list[Tensor]:
        return gradients(choose_topk, p, x)

    def theirs() -> list[Tensor]:
        return gradients(masked, p, x)

    what = f"TopK layer, {tokens} tokens, d {d}, {latents} latents, k {k}"
    seconds = medians(ours, theirs, repeats)
    times = (MS * one for one in seconds)
    rows = [row(f"{what}: forward and backward", *times, "ms", "faster", seconds[0] < seconds[1])]
    if device().type == "cuda":
        peaks = [peak_of(work) / 2**20 for work in (ours, theirs)]
        rows.append(row(f"{what}: peak memory", *peaks, "MiB", "no higher", peaks[0] <= peaks[1]))
    double = {name: value.detach().double().requires_grad_() for name, value in p.items()}
    exact, found = gradients(masked, double, x.double()), (ours(), theirs())
    for number, name in enumerate(("output", *p)):
        errors = [_apart(one[number].detach(), exact[number].detach()) for one in found]
        close = errors[0] <= max(4 * errors[1], 1e-5)
        rows.append(row(f"{what}: {name} against float64", *errors, "rel. error", "4x of masks', 1e-5", close))
    return rows


def _products(tokens: int, d: int, latents: int) -> list[Row]:
    """Both kernels by themselves, beside dense products in float64; in Triton's interpreter where there is no GPU."""
    made = importlib.import_module("gossamer.sparse.kernels")
    generator = torch.Generator(device()).manual_seed(1)
    x, other = (torch.randn(rows, d, device=device(), generator=generator) for rows in (tokens, latents))
    full = torch.randn(tokens, latents, device=device(), generator=generator)
    active = SparseLatents.from_flat((full.flatten() > 2).nonzero()[:, 0], full[full > 2], tokens, latents)
    sparse, x64, other64 = torch.where(full > 2, full, 0).double(), x.double(), other.double()
    errors = {
        "sums": _apart(made.sums(active.starts, active.latents, full[full > 2], other), sparse @ other64),
        "products": _apart(made.products(active.starts, active.latents, x, other), (x64 @ other64.t())[full > 2]),
    }
    return [
        row(f"kernel of {name} against float64", error, 1e-5, "rel. error", "<= 1e-5", error <= 1e-5)
        for name, error in errors.items()
    ]


def masked(p: dict[str, Tensor], x: Tensor, k: int) -> ChosenLatents:
    """The same choice as a mask, as every device can compute with it."""
    pre = x @ p["W_enc"] + p["b_enc"]
    values, latents = pre.detach().topk(k, dim=1)
    return ChosenMask.of(torch.zeros_like(pre, dtype=torch.bool).scatter(1, latents, values > 0), pre, None)


def _apart(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


# Training steps beside the other libraries'.


def trainers(scale: Scale, model: Path | None) -> list[Row]:
    """See train_dictionary.py."""
    return train_dictionary.compared(train_dictionary.arguments(scale.trainers))


# A circuit search on a large model's shape.


def search(scale: Scale, model: Path | None) -> list[Row]:
    """Seconds a step of the mask search, and its peak memory beside the formula of circuit_memory.py."""
    sizes, config = scale.search, scale.gemma
    torch.manual_seed(0)
    seconds: list[float] = []

    def whole() -> None:
        splice, full = _network(config, sizes)
        began = time.perf_counter()
        search_path(splice, full, SearchSettings(sizes=(max(sizes.columns // 16, 5), 5), steps=scale.steps))
        if device().type == "cuda":
            torch.cuda.synchronize()
        seconds.append((time.perf_counter() - began) / scale.steps)

    peak = peak_of(whole) / GB
    stages = circuit_memory.transient(config, sizes)
    largest = max(size for name, size in stages.items() if name.startswith(("attribution patching", "mask search")))
    stated = (sum(circuit_memory.resident(config, sizes).values()) + largest) / GB
    layers, d = config.num_hidden_layers, config.hidden_size
    what = f"mask search, Gemma 2 of {layers} layers of {d} in bfloat16, {len(sizes.sites)} x {sizes.latents} latents"
    rows = [
        row(f"{what}: a step, {share} published (A100, float32)", seconds[0], theirs, "s", target, holds)
        for share, theirs, target, holds in (
            ("fastest", PUBLISHED[0], "reported", True),
            ("slowest", PUBLISHED[1], "faster", seconds[0] < PUBLISHED[1]),
        )
    ]
    fits = device().type == "cpu" or 0.7 * stated <= peak <= 1.05 * stated
    return [*rows, row(f"{what}: peak memory, the formula's", peak, stated, "GB", "0.7 to 1.05 of it", fits)]


def _network(config: Gemma2Config, sizes: circuit_memory.Sizes) -> tuple[Splice, FullModel]:
    """A random model with random dictionaries on its streams, random prompts, and the answers that it likes best."""
    with device():
        model = LanguageModel.load(Gemma2ForCausalLM(config).to(torch.bfloat16).eval())
        roles = torch.arange(sizes.positions).repeat(sizes.prompts, 1) - 1
        tokens = Tokens.full(torch.randint(3, config.vocab_size, roles.shape))
        sites = [Site("resid_post", layer) for layer in sizes.sites]
        streams = model.capture(tokens[: min(8, sizes.prompts)], sites)
        dictionaries = {site: _dictionary(site, streams[site].float().flatten(0, 1), sizes.latents) for site in sites}
        ablation = {
            site: SiteAblation(
                torch.zeros(sizes.ablation_groups, sizes.latents),
                torch.zeros(sizes.ablation_groups, config.hidden_size),
            )
            for site in sites
        }
        grid = torch.zeros(sizes.positions, sizes.latents, dtype=torch.bool)
        grid[: sizes.positions - 1, : sizes.columns] = True
        nodes = Nodes.from_grids(
            sites, [f"position {number}" for number in range(sizes.positions)], [grid] * len(sites)
        )
        end = torch.full((sizes.prompts,), sizes.positions - 1)
        encoded = TokenizedPrompts(tokens, roles, roles, end)
        logits = model.logits(tokens[:1], at=end[:1])[0]
        answer, incorrect = (choice.repeat(sizes.prompts) for choice in (logits.argmax(), logits.argmin()))
        prompt = Prompt((Piece("a"),), (Piece("b"),), "x", "y", "t")
        examples = PromptPairs(encoded, encoded, answer, incorrect, (prompt,) * sizes.prompts, True)
        means = Ablation("mean", "mean", ablation)
        splice = Splice.of(model, dictionaries, examples, means, nodes, batch_size=sizes.batch)
        return splice, FullModel.measure(splice.full, examples, sizes.batch)


def _dictionary(site: Site, x: Tensor, latents: int) -> Dictionary:
    """JumpReLU with random directions, each active on one token in 160 of a stream like `x`: L0 about 100 of 16,384."""
    made = Dictionary(DictionaryConfig("jumprelu", d_in=x.shape[1], n_latents=latents, site=site), device=x.device)
    with torch.no_grad():
        made.W_dec.normal_()
        made.W_dec /= made.W_dec.norm(dim=1, keepdim=True)
        made.W_enc.copy_(made.W_dec.t())
        made.b_dec.copy_(x.mean(dim=0))
        made.b_enc.copy_(-made.b_dec @ made.W_enc)
        made.threshold.fill_(2.5 * float((x - made.b_dec).square().mean().sqrt()))
    return made.requires_grad_(False)


# JAX: an edit at one layer of a scan.


def jax_edit(scale: Scale, model: Path | None) -> list[Row]:
    """An expensive edit at one layer: ours runs it under a cond at that layer, `where` computes it at all of them."""
    import jax

    made = importlib.import_module("jax_instrument")
    gossamer_jax = importlib.import_module("gossamer.jax")
    size = made.Size(middle=scale.layers, width=scale.width, tokens=scale.width, repeats=scale.repeats)
    weights, x = made.weights_of(size, size.middle), made.input_of(size)
    wide = jax.random.normal(jax.random.key(2), (size.width, 8 * size.width)) / size.width**0.5
    layer = size.middle // 2

    def edit(h: Any, wide: Any) -> Any:
        return jax.nn.relu(h @ wide) @ wide.T

    def ours(weights: Any, x: Any, wide: Any) -> Any:
        edits = {gossamer_jax.at("mlp_out", layers=layer): lambda h: edit(h, wide)}
        return gossamer_jax.patch(made.scanned, edits)(weights, x)

    def where(weights: Any, x: Any, wide: Any) -> Any:
        def body(x: Any, inputs: Any) -> Any:
            w, number = inputs
            out = jax.nn.gelu(x @ w["up"]) @ w["down"]
            return x + jax.numpy.where(number == layer, edit(out, wide), out) / 4, None

        return jax.lax.scan(body, x, (weights, jax.numpy.arange(size.middle)))[0]

    programs = [made.compiled(function, weights, x, wide) for function in (ours, where)]
    seconds = made.best_times(size.repeats, programs, weights, x, wide)
    results = [one.call(weights, x, wide) for one in programs]
    apart = float(abs(results[0] - results[1]).max() / abs(results[1]).max())
    what = f"JAX on {jax.default_backend()}, edit at 1 of {size.middle} layers of {size.width}, cond beside where"
    return [
        row(what, *(MS * one for one in seconds), "ms", "faster", seconds[0] < seconds[1]),
        row(f"{what}: results apart", apart, 1e-3, "rel. error", "<= 1e-3", apart <= 1e-3),
    ]


# SmolLM2 from nothing to a circuit.


def whole_path(scale: Scale, model: Path | None) -> list[Row]:
    """Dictionaries trained on a real model and a circuit found with them; the dry run takes the bundled model."""
    given = [model] if model is not None else [REAL / "models" / name for name in MODELS]
    folder = next((one for one in given if one.is_dir()), None)
    if folder is None and scale.name != "dry-run":
        raise GossamerError(f"a folder of SmolLM2 expected, found none at {', '.join(map(str, given))}; give --model")
    loaded = LanguageModel.load("bundled:spool" if folder is None else folder, device=device().type)
    stories = REAL / "text" / "tinystories_train.jsonl"
    texts = read_texts(stories)[:20_000] if stories.is_file() and folder else bundled_texts(6_000, 0)
    sites = [Site("resid_post", round(share * (loaded.n_layers - 1))) for share in (0.25, 0.5, 0.75)]
    dry = scale.name == "dry-run"
    config = TrainingConfig(
        corpus=CorpusConfig(context=32 if dry else 128, bos=1.0),
        trainer=DictionaryTrainerConfig(n_latents=128 if dry else 8192, objective=BatchTopK(k=16 if dry else 64)),
        fit=FitConfig(tokens=scale.tokens, **({"batch": 512, "buffer": 2048, "sensitivity_rows": 16} if dry else {})),
        finetune=FinetuneConfig(tokens=0),
    )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        dictionaries = train_dictionaries(loaded, texts, sites, config, scratch)
    trained = time.perf_counter() - began
    task = get("ioi").generate(loaded.tokenizer, n=48 if dry else 384)
    settings = SearchSettings(sizes=(50,), steps=5) if dry else SearchSettings(sizes=(500, 200, 100))
    began = time.perf_counter()
    found = find_circuit(loaded, dictionaries, task, size=50 if dry else 100, search=settings)
    searched = time.perf_counter() - began
    evaluator = found.study.evaluator
    kept, spliced = evaluator.kept(found.nodes), evaluator.faithfulness(evaluator.dictionaries)
    name, nodes = loaded.title, len(found.nodes)
    learned = f"{name}: {len(sites)} dictionaries from {scale.tokens:,} tokens"
    return [
        row(learned, trained, 180, "s", "180 s", trained <= 180),
        row(f"{name}: circuit of {nodes} nodes for IOI", searched, 120, "s", "120 s", searched <= 120),
        row(f"{name}: faithfulness of the circuit, of the dictionaries", kept, spliced, "share", "reported", True),
    ]


PARTS: dict[str, Callable[[Scale, Path | None], list[Row]]] = {
    "kernels": kernels,
    "search": search,
    "jax": jax_edit,
    "trainers": trainers,
    "smollm2": whole_path,
}
