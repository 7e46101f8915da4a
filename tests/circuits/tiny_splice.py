"""A tiny random network with dictionaries in it, all in float64: what tests of circuits perturb."""

from dataclasses import replace

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from gossamer.circuits.ablation import Ablation, SiteAblation
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.splice import Splice
from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.prompt import Piece, Prompt
from gossamer.tasks.prompt_pairs import PromptPairs, TokenizedPrompts
from gossamer.tokens import Tokens

D, N_LATENTS, N_SLOTS, N_WORDS = 16, 20, 6, 30
ROLES = ("A", "B", "END")


def tiny_model() -> LanguageModel:
    """GPT-2 with three layers; its words are w0, w1, ..."""
    torch.manual_seed(0)
    config = GPT2Config(
        n_layer=3,
        n_embd=D,
        n_head=2,
        vocab_size=N_WORDS,
        n_positions=16,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    words = Tokenizer(WordLevel({f"w{i}": i for i in range(N_WORDS)}, unk_token="w0"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    return LanguageModel.load(GPT2LMHeadModel(config).double().eval(), tokenizer=tokenizer)


def tiny_examples() -> PromptPairs:
    """Six prompts of length 7 or 5, BOS first, with two templates' worth of ablation groups."""
    generator = torch.Generator().manual_seed(1)
    roles = torch.tensor([[-1, 0, 0, 1, 0, 1, 2], [-1, 1, 0, 1, 2, -1, -1]]).repeat(3, 1)
    ablation_groups = torch.tensor([[-1, 0, 1, 2, 3, 4, 5], [-1, 2, 0, 4, 5, -1, -1]]).repeat(3, 1)
    mask = torch.tensor([[True] * 7, [True] * 5 + [False] * 2]).repeat(3, 1)
    ids = torch.randint(1, N_WORDS, roles.shape, generator=generator)
    encoded = TokenizedPrompts(Tokens(ids, mask), roles, ablation_groups, torch.tensor([6, 4] * 3))
    other = replace(encoded, tokens=Tokens(torch.randint(1, N_WORDS, roles.shape, generator=generator), mask))
    answer, incorrect = torch.arange(1, 7), torch.arange(11, 17)
    prompt = Prompt((Piece("clean"),), (Piece("other"),), "right", "wrong", "by hand")
    return PromptPairs(encoded, other, answer, incorrect, (prompt,) * 6, True)


def _dictionary(site: Site, width: int, seed: int) -> Dictionary:
    generator = torch.Generator().manual_seed(seed)
    dictionary = Dictionary(DictionaryConfig("relu", width, N_LATENTS, site=site), dtype=torch.float64)
    for name, scale in (("W_enc", 0.3), ("W_dec", 0.3), ("b_enc", 0.3), ("b_dec", 0.1)):
        parameter = dictionary.get_parameter(name)
        parameter.data = scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return dictionary.requires_grad_(False)


def tiny_splice(model: LanguageModel, examples: PromptPairs, names: tuple[str, ...], errors: str = "mean") -> Splice:
    """Random dictionaries at the named sites, every node, random ablation values."""
    sites = [Site.parse(name) for name in names]
    generator = torch.Generator().manual_seed(2)

    def values(width: int) -> Tensor:
        return torch.rand(N_SLOTS, width, generator=generator, dtype=torch.float64)

    width = {site: model.width(site) for site in sites}
    ablation = {
        site: SiteAblation(values(N_LATENTS), values(width[site]) if errors == "mean" else None) for site in sites
    }
    dictionaries = {site: _dictionary(site, width[site], seed) for seed, site in enumerate(sites)}
    grids = [torch.ones(len(ROLES), N_LATENTS, dtype=torch.bool) for _ in sites]
    everything = Nodes.from_grids(sites, ROLES, grids)
    return Splice.of(model, dictionaries, examples, Ablation("mean", errors, ablation), everything, batch_size=4)


def some_nodes(splice: Splice, count: int) -> Nodes:
    """A random choice of the splice's nodes, in its order."""
    order = torch.randperm(len(splice.nodes), generator=torch.Generator().manual_seed(3))
    return splice.nodes.select(order[:count].sort().values)
