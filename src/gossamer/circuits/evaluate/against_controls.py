"""The same search in control dictionaries, and by how much the circuit does better than what is found there.

Treated and controls share everything but the dictionaries: the model, the prompts and how they are divided, the
ablation, the search with its settings and exact steps, its sizes, and the held-out prompts with their samples.
Sources: arXiv 2602.14111 (frozen and soft-frozen dictionaries), 2501.17727 (models with random weights).
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.circuits.controls import TREATED, ControlArm, ControlGap, Controls
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.find import CircuitResult
from gossamer.circuits.methods import METHODS
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.prompt_metrics import PromptMetrics
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import Study
from gossamer.dictionary.attach import DictionaryWarning
from gossamer.dictionary.config import Contents
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.set import DictionarySet
from gossamer.errors import UsageError
from gossamer.model.site import Site, SiteMapping, by_site
from gossamer.progress import part_of
from gossamer.seeding import generator
from gossamer.statistics import Interval

SHUFFLED = "shuffled-latents"


def shuffled_latents(dictionaries: SiteMapping[Dictionary], seed: int = 0) -> DictionarySet:
    """Each latent fires as it does and writes, as strongly as it does, the direction of another latent of its site.

    So firing, sparsity, the strength of every latent and the set of directions are those of the dictionary; that they
    belong together is not.
    """
    return DictionarySet(_shuffled(dictionary, site, seed) for site, dictionary in by_site(dictionaries).items())


def _shuffled(dictionary: Dictionary, site: Site, seed: int) -> Dictionary:
    rows = dictionary.W_dec.detach()
    order = torch.randperm(len(rows), generator=generator(seed, SHUFFLED, str(site))).to(rows.device)
    norms = rows.norm(dim=1, keepdim=True)
    tensors = dict(dictionary.state_dict())
    tensors["W_dec"] = rows[order] / norms[order].clamp(min=torch.finfo(rows.dtype).tiny) * norms
    contents = Contents(dictionary.config, tensors, {"source": SHUFFLED}, dictionary.reported)
    return Dictionary.from_contents(contents)


def against_controls(found: CircuitResult, controls: Mapping[str, SiteMapping[Dictionary]]) -> Controls | None:
    """The circuit's counterparts in each set of control dictionaries, and its gap over the best of them.

    Args:
        found: the circuit, with the path as a report shows it (its method's exact steps done).
        controls: dictionaries at the same sites with as many latents, by what was done to them; None without any.

    Cost: a whole search each.

    Raises:
        UsageError: other sites or numbers of latents.
    """
    if not controls:
        return None
    size = len(found.nodes)
    treated, own = _arm(TREATED, found.study, found.path, found.search, size)
    arms, measured = [], []
    for name, dictionaries in controls.items():
        study = replace(found.study, dictionaries=by_site(dictionaries))
        require_alike(name, found.study.dictionaries, study.dictionaries)
        with warnings.catch_warnings(), part_of(f"control {name}"):
            # That they do not do here what files claim is what they are for.
            warnings.simplefilter("ignore", DictionaryWarning)
            path = METHODS[found.path.method](study.method_inputs(found.search))
            arm, prompts = _arm(name, study, path, found.search, size)
        arms.append(arm)
        measured.append((name, study.evaluator, prompts))
    return Controls(size, treated, tuple(arms), _gaps(found.study.evaluator, own, measured))


def require_alike(name: str, own: Mapping[Site, Dictionary], other: Mapping[Site, Dictionary]) -> None:
    """Refuse a control that differs from the circuit's dictionaries in more than what it learned.

    Raises:
        UsageError: other sites or numbers of latents.
    """
    sites, widths = (
        {str(site): dictionary.n_latents for site, dictionary in sorted(one.items())} for one in (own, other)
    )
    if sites != widths:
        raise UsageError(
            f"control {name}: dictionaries as those of the circuit expected ({_said(sites)}), found {_said(widths)}; "
            "a control differs in nothing but what its dictionaries learned"
        )


def _said(widths: Mapping[str, int]) -> str:
    return ", ".join(f"{site} of {count} latents" for site, count in widths.items())


def _arm(
    name: str, study: Study, path: CircuitPath, search: SearchSettings, size: int
) -> tuple[ControlArm, PromptMetrics]:
    """What a path comes to, and its circuit of the size on every held-out prompt.

    A path without so small a circuit gives its smallest: in doubt a counterpart has more nodes, not fewer.
    """
    evaluator, size = study.evaluator, max(size, path.sizes[-1])
    circuit = study.method_inputs(search).refiner(path).refined(path.of_size(size), size)
    prompts = evaluator.prompt_metrics(path.nodes.select(circuit))
    points = [
        evaluator.task_metrics(name, evaluator.prompt_metrics(path.nodes.select(one))).of_size(len(one))
        for one in path.circuits
    ]
    whole = evaluator.task_metrics(name, evaluator.dictionaries).of_size(len(study.nodes))
    return ControlArm(name, whole, evaluator.task_metrics(name, prompts).of_size(len(circuit)), tuple(points)), prompts


def _gaps(
    evaluator: Evaluator, prompts: PromptMetrics, controls: Sequence[tuple[str, Evaluator, PromptMetrics]]
) -> tuple[ControlGap, ...]:
    """For every claim the control that does best on all held-out prompts, and how far the circuit is from it."""
    own = _costs(evaluator, prompts)
    others = {name: _costs(evaluator, prompts) for name, evaluator, prompts in controls}
    gaps = []
    for claim, (value, drawn) in own.items():
        best = min(others, key=lambda name: others[name][claim][0])
        other, theirs = others[best][claim]
        low, high = torch.quantile(theirs - drawn, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
        gaps.append(ControlGap(claim, value, other, best, Interval(other - value, low, high)))
    return tuple(gaps)


def _costs(evaluator: Evaluator, prompts: PromptMetrics) -> dict[str, tuple[float, Float[Tensor, "draw"]]]:
    """By claim: its value on all held-out prompts, and on each bootstrap sample of them. All are better where lower."""
    full, weights = evaluator.full, evaluator.weights
    own, base, zero, kl, wrong = (
        values.cpu().double()
        for values in (prompts.metric, full.prompt_metrics.metric, full.zero, prompts.kl, ~prompts.correct)
    )
    whole = torch.cat([torch.ones_like(weights[:1]), weights])
    span, total = whole @ (base - zero), whole.sum(dim=1)
    costs = {
        "distance of faithfulness from 1": (1 - (whole @ (own - zero)) / span).abs(),
        "per-prompt error": (whole @ (own - base).abs()) / span.abs(),
        "KL to the full model, nats": (whole @ kl) / total,
        "share of prompts wrong": (whole @ wrong) / total,
    }
    return {claim: (float(values[0]), values[1:]) for claim, values in costs.items()}
