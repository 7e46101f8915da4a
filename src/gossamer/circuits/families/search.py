"""A circuit for each family of a task's prompts: the whole search on its prompts alone, tested on its own and others.

Where searches on samples of the prompts disagree there may be no one circuit but several, of prompts that the model
solves in different ways (ACC++, arXiv 2602.13483: families by template, a circuit for each). All families share the
study's candidates, ablation values, search settings and the size of the circuit of all prompts.
"""

from collections.abc import Sequence
from functools import partial
from operator import methodcaller

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.circuits.circuit_numbers import CircuitNumbers
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.evaluate.stability import jaccard, overlap
from gossamer.circuits.families.grouping import (
    LEAST,
    FamilyKind,
    Grouping,
    clustered,
    labelled,
    profiles,
)
from gossamer.circuits.families.results import Families, PromptFamily
from gossamer.circuits.find import CircuitResult
from gossamer.circuits.methods import MethodInputs, searched
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.study import Study
from gossamer.errors import UsageError
from gossamer.progress import announce, part_of


def circuit_families(found: CircuitResult, by: FamilyKind, reruns: int = 0) -> Families:
    """Search each family of the prompts of a circuit.

    Args:
        found: the circuit of all prompts.
        by: what families are made by.
        reruns: searches on bootstrap samples of each family's prompts, for its stability.

    Cost: 1 + reruns searches for each family; by profile a gradient for each prompt too.

    Raises:
        UsageError: fewer than two families with enough prompts, or another method than the mask search.
    """
    if found.path.method != "mask":
        raise UsageError(f"families: a circuit of the mask search expected, found one of {found.path.method}")
    study, size = found.study, len(found.nodes)
    grouping = group_prompts(study, by)
    counts = {name: grouping.training.count(name) for name in dict.fromkeys(grouping.training)}
    enough = [name for name in counts if counts[name] >= LEAST and grouping.held_out.count(name) > 1]
    if len(enough) < 2:
        raise UsageError(
            f"families by {by}: at least two of {LEAST} training prompts and 2 held-out ones expected, found "
            f"{', '.join(f'{name!r} of {count}' for name, count in counts.items())}; give more prompts (--prompts)"
        )
    names = sorted(enough, key=lambda name: (-counts[name], name))
    given = found.study.method_inputs(found.search)
    families, circuits = [], []
    for name in names:
        announce(partial("families: {} ({} training prompts)".format, name, counts[name]))
        family = _family_inputs(given, grouping, name)
        with part_of(f"family {name!r}"):
            nodes, samples = _circuit(family, size), []
            for seed in range(1, reruns + 1):
                with part_of(f"sample {seed} of {reruns}"):
                    samples.append(_circuit(family.sampled(methodcaller("resampled", seed)), size))
        families.append(_measured(found, grouping, name, nodes, samples))
        circuits.append(nodes.keys())
    shared = overlap("family", ["all prompts", *names], [found.nodes.keys(), *circuits])
    left_out = tuple(name for name in counts if name not in enough)
    return Families(by, size, tuple(families), shared, left_out, grouping.silhouette)


def group_prompts(study: Study, by: FamilyKind) -> Grouping:
    """The family of each training and held-out prompt of a study."""
    if by == "profile":
        return clustered(profiles(study.splice), profiles(study.evaluator.splice))
    return labelled(study.examples, study.task.test, study.task.role_names, by)


def _rows(names: Sequence[str], name: str, *, inside: bool = True) -> Int[Tensor, "rows"]:
    return torch.tensor([row for row, one in enumerate(names) if (one == name) == inside], dtype=torch.long)


def _family_inputs(given: MethodInputs, grouping: Grouping, name: str) -> MethodInputs:
    """What the search is given of one family: its prompts on each side; all on one where a side has none."""
    device = given.training.splice.model.device
    inside = set(_rows(grouping.training, name).tolist())
    if given.sides is not None:
        fitted, chosen = (
            [place for place, row in enumerate(rows) if row in inside] for rows in (given.sides.train, given.sides.test)
        )
        if fitted and chosen:
            parts = iter((fitted, chosen))
            return given.sampled(lambda _: torch.tensor(next(parts), dtype=torch.long, device=device))
    rows = torch.tensor(sorted(inside), dtype=torch.long, device=device)
    return MethodInputs.divided(given.training.select(rows), None, given.search)


def _circuit(given: MethodInputs, size: int) -> Nodes:
    """At most `size` nodes, by the steps that find a circuit of a given size."""
    path = searched(given)
    refiner, size = given.refiner(path), max(size, path.sizes[-1])
    return path.nodes.select(refiner.refined(refiner.improved_at(path, size).of_size(size), size))


def _measured(
    found: CircuitResult, grouping: Grouping, name: str, nodes: Nodes, samples: Sequence[Nodes]
) -> PromptFamily:
    """A family's circuit, and that of all prompts, on the held-out prompts inside it and outside."""
    keys = nodes.keys()
    sampled = [keys, *(sample.keys() for sample in samples)]
    again = overlap("bootstrap", [str(number) for number in range(len(sampled))], sampled)
    device = found.study.model.device
    inside, outside = (
        found.study.evaluator.select(_rows(grouping.held_out, name, inside=here).to(device)) for here in (True, False)
    )

    def on(evaluator: Evaluator, circuit: Nodes) -> CircuitNumbers:
        return evaluator.task_metrics(name, evaluator.prompt_metrics(circuit)).of_size(len(circuit))

    return PromptFamily(
        name,
        grouping.training.count(name),
        grouping.held_out.count(name),
        tuple(keys),
        jaccard(keys, found.nodes.keys()),
        again.agreement,
        on(inside, nodes),
        on(outside, nodes),
        on(inside, found.nodes),
        inside.faithfulness(inside.dictionaries),
        outside.faithfulness(outside.dictionaries),
    )
