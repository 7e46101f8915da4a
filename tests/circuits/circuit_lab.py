"""A task that the tiny network can do, dictionaries of every kind, and the spliced network written out by hand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from tiny_splice import N_WORDS, D
from torch import Tensor

from gossamer.circuits.ablation import Ablation, AblationKind, ErrorPolicy, SiteAblation
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.outputs import Outputs
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.splice import Splice
from gossamer.circuits.study import StudySettings
from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.features import Feature, Node
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.metric import LOGIT_DIFFERENCE
from gossamer.tasks.prompt import Piece, Prompt
from gossamer.tasks.prompt_pairs import PromptPairs, TokenizedPrompts
from gossamer.tasks.task import Task
from gossamer.tokens import Tokens

ROLES = ("prefix", "A", "gap", "B", "END")
# Two templates, BOS first, the shorter one padded. The prefix and the gap are the same word in every prompt.
ROLE_ROWS = torch.tensor([[-1, 0, 1, 1, 2, 3, 4], [-1, 0, 3, 1, 4, -1, -1]])
SLOT_ROWS = torch.tensor([[-1, 0, 1, 2, 3, 4, 5], [-1, 6, 7, 8, 9, -1, -1]])
N_SLOTS, BOS, PREFIX, GAP = 10, 0, 3, 4
LATENTS = 20
MODEL_NAME = "GPT2LMHeadModel"
SEARCH = SearchSettings(sizes=(80, 40, 20, 10), steps=25, batch_size=6, learning_rate=0.3, seed=4)
SETTINGS = StudySettings(batch_size=32, seed=3)


def node_at(site: str | Site, role: str, latent: int) -> Node:
    return Node(Feature(Site.parse(str(site)), latent), role)


def sites_of(*names: str) -> tuple[Site, ...]:
    return tuple(map(Site.parse, names))


def random_dictionary(
    site: Site,
    architecture: str = "relu",
    *,
    seed: int = 0,
    n_latents: int = LATENTS,
    dtype: torch.dtype = torch.float64,
    **conventions: object,
) -> Dictionary:
    """Seeded random weights such that some latents are active and some are not."""
    k = {"topk": 6, "batchtopk": 6.5}.get(architecture)
    config = DictionaryConfig(architecture, D, n_latents, site=site, model_name=MODEL_NAME, k=k, **conventions)
    dictionary = Dictionary(config, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in dictionary.named_parameters():
        values = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = (values.abs() if name == "threshold" else values).to(dtype)
    return dictionary.requires_grad_(False)


def mirror_dictionary(site: Site, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Dictionary:
    """A dictionary without error: two latents for each axis of a random rotation, one for either sign."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(D, D, generator=generator, dtype=torch.float64)).Q
    dictionary = Dictionary(DictionaryConfig("relu", D, 2 * D, site=site, model_name=MODEL_NAME), dtype=dtype)
    dictionary.W_enc.data = torch.cat([axes, -axes], dim=1).to(dtype)
    dictionary.W_dec.data = torch.cat([axes.T, -axes.T]).to(dtype)
    for name in ("b_enc", "b_dec"):
        parameter = dictionary.get_parameter(name)
        parameter.data = torch.zeros_like(parameter)
    return dictionary.requires_grad_(False)


def encoded(n: int, generator: torch.Generator) -> TokenizedPrompts:
    """Prompts of both templates in turn, with random words at A, B and END, and at padding."""
    roles, ablation_groups = ROLE_ROWS.repeat(n, 1)[:n], SLOT_ROWS.repeat(n, 1)[:n]
    ids = torch.randint(5, N_WORDS, roles.shape, generator=generator)
    ids = torch.where(roles == 0, PREFIX, torch.where(roles == 2, GAP, ids))
    ids[:, 0] = BOS
    mask = torch.ones_like(roles, dtype=torch.bool)
    mask[1::2, 5:] = False
    return TokenizedPrompts(Tokens(ids, mask), roles, ablation_groups, mask.sum(dim=1) - 1)


def able_examples(model: LanguageModel, n: int, seed: int = 0) -> PromptPairs:
    """Prompts with answers that the model prefers on the prompt more than on its counterfactual."""
    generator = torch.Generator().manual_seed(seed)
    clean, other = encoded(n, generator), encoded(n, generator)
    with torch.no_grad():
        own = model.logits(clean.tokens, at=clean.answer_position)
        change = own - model.logits(other.tokens, at=other.answer_position)
    answer = change.argmax(dim=1)
    below = own < own.gather(1, answer[:, None])
    incorrect = torch.where(below, change, torch.inf).argmin(dim=1)
    prompt = Prompt((Piece("clean"),), (Piece("other"),), "right", "wrong", "by hand")
    return PromptPairs(clean, other, answer, incorrect, (prompt,) * n, True)


def able_task(model: LanguageModel, n_train: int = 12, n_test: int = 8) -> Task:
    """The same kind of prompts for training and for testing."""
    train, test = able_examples(model, n_train, seed=1), able_examples(model, n_test, seed=2)
    ablation_groups = tuple(f"slot{number}" for number in range(N_SLOTS))
    return Task("by hand", ROLES, ablation_groups, train, test, True, LOGIT_DIFFERENCE, {"source": "made by hand"})


def unaligned(examples: PromptPairs) -> PromptPairs:
    """The same prompts, each with a counterfactual of the other template."""
    swapped = torch.arange(len(examples)) ^ 1
    return replace(examples, counterfactual=examples.counterfactual[swapped], aligned=False)


def random_ablation(
    sites: Sequence[Site], kind: AblationKind = "mean", errors: ErrorPolicy = "mean", n_latents: int = LATENTS
) -> Ablation:
    """Ablation values out of the air, in float64."""
    generator = torch.Generator().manual_seed(2)

    def values(width: int) -> Tensor:
        return torch.rand(N_SLOTS, width, generator=generator, dtype=torch.float64)

    return Ablation(
        kind,
        errors,
        {
            site: SiteAblation(values(n_latents) if kind == "mean" else None, values(D) if errors == "mean" else None)
            for site in sites
        },
    )


def all_nodes(dictionaries: Mapping[Site, Dictionary]) -> Nodes:
    grids = [torch.ones(len(ROLES), dictionary.n_latents, dtype=torch.bool) for dictionary in dictionaries.values()]
    return Nodes.from_grids(tuple(dictionaries), ROLES, grids)


def random_choice(nodes: Nodes, count: int, seed: int = 3) -> Nodes:
    """Some of the nodes, in their order."""
    order = torch.randperm(len(nodes), generator=torch.Generator().manual_seed(seed))
    return nodes.select(order[:count].sort().values)


def random_mask(nodes: Nodes, seed: int = 4) -> Tensor:
    return torch.rand(len(nodes), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grids_of(nodes: Nodes, mask: Tensor, dictionaries: Mapping[Site, Dictionary], rest: float) -> dict[Site, Tensor]:
    """A full (role, latent) mask for every site: `rest` where there is no node."""
    grids = {
        site: torch.full((len(ROLES), found.n_latents), rest, dtype=torch.float64)
        for site, found in dictionaries.items()
    }
    for node, value in zip(nodes.keys(), mask.tolist(), strict=True):
        grids[node.site][ROLES.index(node.role), node.latent] = value
    return grids


def by_hand(
    splice: Splice,
    grids: Mapping[Site, Tensor],
    reads: dict[Site, Tensor] | None = None,
    error_masks: Mapping[Site, Tensor] | None = None,
) -> Tensor:
    """Logits from the definition: dense latents of every dictionary at every token, one edit of the model a site.

    `reads` gets what each dictionary was given. `error_masks`: of error nodes, one entry a role.
    """
    model, examples, ablation = splice.model, splice.examples, splice.ablation
    roles, ablation_groups = examples.clean.roles, examples.clean.ablation_groups
    with torch.no_grad():
        own = model.capture(examples.clean.tokens, list(splice.dictionaries))
    if ablation.kind == "resample":
        others = model.capture(examples.counterfactual.tokens, list(splice.dictionaries))

    def replaced(site: Site, x: Tensor) -> Tensor:
        if reads is not None:
            reads[site] = x
        dictionary, values = splice.dictionaries[site], ablation.sites[site]
        latents, statistics = dictionary.encode_dense(x), dictionary.normalise(x)[1]
        ablated, error = torch.zeros_like(latents), torch.zeros_like(x)
        if ablation.kind == "resample":
            ablated = dictionary.encode_dense(others[site])
        if ablation.errors == "keep":
            error = x - dictionary.decode(latents, statistics=statistics)
        weight = torch.zeros_like(latents)
        for row, token in torch.nonzero(roles >= 0).tolist():
            weight[row, token] = grids[site][int(roles[row, token])]
            if ablation.kind == "mean":
                ablated[row, token] = values.latents[int(ablation_groups[row, token])]
            if ablation.errors == "mean":
                error[row, token] = values.error[int(ablation_groups[row, token])]
            if error_masks is not None:
                x_own = own[site][row, token]
                exact = x_own - dictionary.reconstruct(x_own, dictionary.encode_dense(x_own))
                share = error_masks[site][int(roles[row, token])]
                error[row, token] = error[row, token] + share * (exact - error[row, token])
        out = (
            dictionary.denormalise(dictionary.decode_normalised(ablated + weight * (latents - ablated)), statistics)
            + error
        )
        for row, token in torch.nonzero(roles < 0).tolist():
            out[row, token] = x[row, token]
        return out

    edits = {site: (lambda x, site=site: replaced(site, x)) for site in splice.dictionaries}
    with torch.no_grad(), model.edit(edits):
        return model.logits(examples.clean.tokens, at=examples.clean.answer_position)


def table(logits: Tensor) -> Outputs:
    """The outputs of a network of which the logits are known."""

    def unembed(x: Tensor, ids: Tensor | None = None) -> Tensor:
        return x if ids is None else x.gather(1, ids)

    return Outputs(logits, unembed)


def differences(logits: Tensor, examples: PromptPairs) -> Tensor:
    """Logit differences of the prompts, one by one."""
    pairs = zip(logits, examples.answer.tolist(), examples.incorrect.tolist(), strict=True)
    return torch.stack([row[answer] - row[incorrect] for row, answer, incorrect in pairs]).double()


def swapped(task: Task, rows: list[int]) -> Task:
    """The task with answer and wrong answer exchanged in some of the training prompts."""
    answer, incorrect = task.train.answer.clone(), task.train.incorrect.clone()
    answer[rows], incorrect[rows] = task.train.incorrect[rows], task.train.answer[rows]
    return replace(task, train=replace(task.train, answer=answer, incorrect=incorrect))
