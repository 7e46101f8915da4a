"""A network in which the groups of nodes are known: latents at two sites that read and write a few directions."""

from dataclasses import dataclass

import torch
from circuit_lab import N_SLOTS, ROLES, able_examples
from tiny_splice import D
from torch import Tensor

from gossamer.circuits.ablation import Ablation, SiteAblation
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.prompt_metrics import FullModel
from gossamer.circuits.splice import Splice
from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site

SITES = (Site.parse("resid_post.1"), Site.parse("resid_post.2"))
CONCEPTS, EACH, N_PROMPTS = 3, 4, 40


@dataclass(frozen=True)
class PlantedGroups:
    """`truth` is the concept of each node, numbered through both sites."""

    splice: Splice
    circuit: Nodes
    evaluator: Evaluator
    truth: Tensor


def planted_groups(model: LanguageModel, seed: int, noise: float = 0.1) -> PlantedGroups:
    """Three concepts a site, each of four latents that read it, and write what the next site's concept reads.

    Every latent has a size of its own, on both sides, and noise of this share of its length; all are active throughout.
    The reference is the circuit's own network, so that its faithfulness is 1.
    """
    generator = torch.Generator().manual_seed(seed)
    examples = able_examples(model, N_PROMPTS, seed=seed)
    axes = [torch.linalg.qr(torch.randn(D, D, generator=generator, dtype=torch.float64)).Q for _ in range(3)]
    concept = torch.arange(CONCEPTS).repeat_interleave(EACH)
    dictionaries, n = {}, len(concept)
    for index, site in enumerate(SITES):
        read, write = axes[index][concept], axes[index + 1][concept]
        sizes = 0.5 + torch.rand(2, n, 1, generator=generator, dtype=torch.float64)
        read, write = (
            size * (part + noise * torch.randn(n, D, generator=generator, dtype=torch.float64) / D**0.5)
            for size, part in zip(sizes, (read, write), strict=True)
        )
        dictionary = Dictionary(DictionaryConfig("relu", D, n, site=site), dtype=torch.float64)
        dictionary.W_enc.data, dictionary.W_dec.data = read.T.contiguous(), write
        dictionary.b_enc.data = torch.full((n,), 20.0, dtype=torch.float64)
        dictionary.b_dec.data = -20.0 * write.sum(dim=0)
        dictionaries[site] = dictionary.requires_grad_(False)
    middle = torch.full((N_SLOTS, n), 20.0, dtype=torch.float64)
    ablation = Ablation("mean", "drop", {site: SiteAblation(middle, None) for site in SITES})
    grid = torch.zeros(len(ROLES), n, dtype=torch.bool)
    grid[ROLES.index("END")] = True
    circuit = Nodes.from_grids(SITES, ROLES, [grid, grid])
    splice = Splice.of(model, dictionaries, examples, ablation, circuit, batch_size=16)
    whole = FullModel.measure(lambda rows: splice.outputs(torch.ones(len(circuit)), rows), examples)
    truth = torch.cat([concept, concept + CONCEPTS])
    return PlantedGroups(splice, circuit, Evaluator(splice, own=whole), truth)
