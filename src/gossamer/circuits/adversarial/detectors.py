"""What a circuit reads: its nodes in groups that act together, and which words each group looks at."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.circuits.adversarial.guides import CircuitGuide
from gossamer.circuits.adversarial.results import Detector
from gossamer.circuits.nodes import Nodes
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import GossamerError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.prompt_pairs import PromptPairs

# Activations that correlate more than this over prompts, with effects of one sign, are one detector.
TOGETHER = 0.8
# Roles that make up this share of a footprint are what a detector reads.
READ = 0.8


def find_detectors(
    model: LanguageModel, guide: CircuitGuide, pairs: PromptPairs, classes: Mapping[str, Sequence[str]]
) -> tuple[Detector, ...]:
    """The detectors of a circuit, the one with the largest effect first.

    A detector's value is the sum of its nodes' activations times what each does to the metric; its footprint is how
    |gradient x embedding| of that value divides over the roles of the prompt, a mean over prompts. It is a shortcut if
    all words that it reads are of one class of several: it cannot tell what the others say.

    Args:
        model: the model.
        guide: the circuit.
        pairs: prompts that it does.
        classes: roles by the class of words that fill them.
    """
    run, weights, activations = guide.attributed(model, pairs)
    effects = weights.detach() * activations
    roles, names = pairs.clean.roles.to(model.device), guide.nodes.roles
    keys, found = guide.nodes.keys(), []
    for together in groups(activations.detach(), effects.detach().mean(dim=0)):
        gradient = torch.autograd.grad(effects[:, together].sum(), run.leaf, retain_graph=True)[0]
        touched = (gradient * run.leaf.detach()).float().sum(dim=2).abs()
        shares = footprint(touched, roles, len(names))
        read = _read(dict(zip(names, shares.tolist(), strict=True)))
        own = tuple(str(keys[member]) for member in together.tolist())
        effect = effects[:, together].sum(dim=1).mean().item()
        known = {name for name, part in classes.items() if set(part) & set(read)}
        found.append(Detector(own, effect, read, shortcut=len(known) == 1 and len(classes) > 1))
    return tuple(sorted(found, key=lambda one: -abs(one.effect)))


def node_places(nodes: Nodes, detectors: Sequence[Detector]) -> list[list[int]]:
    """The places among the nodes of every detector's."""
    places = {str(key): place for place, key in enumerate(nodes.keys())}
    return [[places[name] for name in detector.nodes] for detector in detectors]


def groups(activations: Float[Tensor, "prompt node"], effect: Float[Tensor, "node"]) -> list[Int[Tensor, "members"]]:
    """Nodes connected by correlations above `TOGETHER` between nodes whose mean effects have one sign."""
    centred = activations - activations.mean(dim=0)
    norms = centred.norm(dim=0)
    # A node that never moves correlates with nothing.
    moving = norms > 1e-6 * activations.abs().amax(dim=0).clamp(min=1e-12)
    unit = torch.where(moving, centred / norms.clamp(min=1e-12), 0.0)
    close = ((unit.T @ unit).abs() > TOGETHER) & (effect.sign()[:, None] == effect.sign()[None])
    close |= torch.eye(len(effect), dtype=torch.bool, device=close.device)
    return _components(close)


def _components(close: Bool[Tensor, "node node"]) -> list[Int[Tensor, "members"]]:
    reached = close
    while not torch.equal(reached, wider := (reached.float() @ reached.float()) > 0):
        reached = wider
    return [torch.nonzero(row).squeeze(1) for number, row in enumerate(reached) if int(row.int().argmax()) == number]


def footprint(
    touched: Float[Tensor, "prompt pos"], roles: Int[Tensor, "prompt pos"], n_roles: int
) -> Float[Tensor, "role"]:
    """The share of every role in what is touched, the mean over the prompts of which anything is."""
    sums = torch.zeros(len(touched), n_roles, device=touched.device)
    sums.scatter_add_(1, roles.clamp(min=0), touched * (roles >= 0))
    totals = sums.sum(dim=1, keepdim=True)
    some = totals[:, 0] > 0
    return (sums[some] / totals[some]).mean(dim=0) if bool(some.any()) else torch.zeros(n_roles)


def _read(shares: Mapping[str, float]) -> dict[str, float]:
    """The fewest roles that make up `READ` of a footprint, the largest first."""
    read: dict[str, float] = {}
    for role, share in sorted(shares.items(), key=lambda one: -one[1]):
        if sum(read.values()) >= READ or share == 0:
            break
        read[role] = share
    return read


def wrong_circuit(
    model: LanguageModel,
    nodes: Nodes,
    dictionaries: Mapping[Site, Dictionary],
    pairs: PromptPairs,
    generator: torch.Generator,
) -> Nodes:
    """As many nodes at each site and role as `nodes` has, others, drawn from the latents that are active there.

    Raises:
        GossamerError: too few latents are active.
    """
    roles = pairs.clean.roles.to(model.device)
    with torch.no_grad():
        streams = model.capture(pairs.clean.tokens.to(model.device), nodes.sites)
    drawn = []
    for index, site in enumerate(nodes.sites):
        latents = dictionaries[site].encode_dense(streams[site])
        for role in sorted(set(nodes.role[nodes.site == index].tolist())):
            own = nodes.latent[(nodes.site == index) & (nodes.role == role)]
            active = (latents[roles == role] > 0).any(dim=0)
            active[own] = False
            free = torch.nonzero(active).squeeze(1).cpu()
            if len(free) < len(own):
                raise GossamerError(
                    f"control circuit: {len(own)} other active latents of {site} at {nodes.roles[role]} expected, "
                    f"found {len(free)}; use wider dictionaries or a smaller circuit"
                )
            chosen = free[torch.randperm(len(free), generator=generator)[: len(own)]]
            drawn += [(index, role, latent) for latent in chosen.tolist()]
    columns = torch.tensor(drawn, dtype=torch.long, device=model.device).reshape(-1, 3)
    return Nodes(nodes.sites, nodes.roles, *columns.unbind(1))
