"""What a run knows of its dictionaries: what their files claim, what training and stores measured, controls."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from gossamer.app.circuit_page import footnote
from gossamer.app.run_folder import Part
from gossamer.app.schema.base import Table
from gossamer.app.schema.dictionaries import Densities, Measure, MeasuredDictionary
from gossamer.app.sets import FoundSet, circuits_with
from gossamer.app.workbench import Workbench
from gossamer.circuits.controls import Controls
from gossamer.dictionary.attach import EXPLAINED_VARIANCE
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import GossamerError
from gossamer.replacement.evaluate.evaluation import density_histogram
from gossamer.report.claims import has_errors
from gossamer.report.text import interval
from gossamer.store.database import quoted
from gossamer.training import metrics

_L0 = "mean number of active latents per token"
# Of the numbers that training measures on its held-out text, with all dictionaries of the set spliced in together.
_HELD_OUT = {
    "ce_model": ("CE of the model", "nats per token"),
    "ce_spliced": ("CE with all dictionaries", "nats per token, every site of the set reconstructed, errors dropped"),
    "ce_mean": ("CE with every site at its mean", "nats per token"),
    "ce_recovered": ("CE kept", ""),
    "kl": ("KL", "KL(model || model with all dictionaries), nats per token"),
}


def measured(bench: Workbench, found: FoundSet, stores: Mapping[str, Part]) -> list[MeasuredDictionary]:
    """Every number that the run has of each dictionary of a set."""
    return [_measured(bench, found, site, stores.get(site)) for site in map(str, found.shapes)]


def _measured(bench: Workbench, found: FoundSet, site: str, store: Part | None) -> MeasuredDictionary:
    dictionary = next(one for known, one in found.shapes.items() if str(known) == site)
    rows = [] if dictionary is None else list(_claimed(dictionary))
    rows += _trained(found, site)
    densities = None
    if store is not None:
        densities, l0, text = _stored(bench, store, site)
        dead = densities.dead / max(densities.dead + sum(densities.counts), 1)
        rows.append(Measure(name="L0", value=l0, formula=_L0, on=text))
        rows.append(Measure(name="dead", value=dead, formula="share of latents active on none of the tokens", on=text))
    return MeasuredDictionary(site=site, measures=rows, densities=densities)


def _claimed(dictionary: Dictionary) -> Iterator[Measure]:
    """What its own file says."""
    claims, said = dictionary.reported, dictionary.provenance.get("training")
    facts: Mapping[str, Any] = said if isinstance(said, dict) else {}
    given = facts.get("held_out")
    held_out: Mapping[str, Any] = given if isinstance(given, dict) else {}
    tokens = held_out.get("tokens")
    text = f"{tokens:,} held-out tokens of its training" if isinstance(tokens, int) else "its makers' text (its file)"
    if claims.l0 is not None:
        yield Measure(name="L0", value=claims.l0, formula=_L0, on=text)
    if claims.explained_variance is not None:
        formula = str(facts.get("explained_variance_formula") or EXPLAINED_VARIANCE)
        yield Measure(name="explained variance", value=claims.explained_variance, formula=formula, on=text)
    for key, (name, formula) in _HELD_OUT.items():
        value = held_out.get(key)
        if isinstance(value, int | float):
            yield Measure(name=name, value=value, formula=formula or str(held_out.get(f"{key}_formula", "")), on=text)


def _trained(found: FoundSet, site: str) -> Iterator[Measure]:
    """What the last step of its training said of dead latents: the set lies in the folder of the training run."""
    if found.circuit is not None:
        return
    folder = found.part.path.parent.parent / "fit"
    try:
        lines = [line for line in metrics.read(folder) if line.get("site") == site and "dead" in line]
    except GossamerError:
        return  # half a file of a run that was stopped: nothing is known
    if lines:
        formula = "share of latents not active for as many tokens as training counts as dead"
        yield Measure(
            name="dead",
            value=lines[-1]["dead"],
            formula=formula,
            on=f"fitting, at step {lines[-1]['step']:,}, the last that it wrote of",
        )


def _stored(bench: Workbench, part: Part, site: str) -> tuple[Densities, float, str]:
    """Densities of a store's latents, L0, and its text."""
    with bench.stores.use(part) as store:
        found = store.sql(f"SELECT active FROM statistics WHERE site = {quoted(site)} ORDER BY latent", limit=None)
        text, tokens = store.text, store.manifest.tokens
    fired = torch.tensor(found["active"].to_pylist(), dtype=torch.long)
    edges, counts = density_histogram(fired, tokens)
    densities = Densities(
        edges=[10.0**edge for edge in edges], counts=counts, dead=int((fired == 0).sum()), tokens=tokens
    )
    return densities, float(fired.sum()) / tokens, text


def controls(bench: Workbench, found: FoundSet) -> list[Table]:
    """Of each circuit in these dictionaries that was held against controls: what it keeps, and what theirs keep."""
    tables = []
    for identifier in circuits_with(bench.run, found):
        known = bench.circuit(identifier).findings
        if known is not None and known.controls is not None:
            tables.append(_controls(identifier, known.controls, has_errors(known)))
    return tables


def _controls(identifier: str, known: Controls, errors: bool) -> Table:
    rows: list[list[Any]] = [
        [
            arm.name,
            arm.dictionaries.size,
            arm.dictionaries.faithfulness.value,
            arm.circuit.size,
            interval(arm.circuit.faithfulness) + arm.mark(arm.circuit),
            interval(arm.circuit.prompt_error),
            arm.circuit.accuracy,
            arm.circuit.kl,
        ]
        for arm in known.arms
    ]
    columns = ["dictionaries", "candidates", "all of them keep", "nodes", "the circuit keeps", "per-prompt error"]
    return Table(
        title=f"Circuits of {identifier} beside controls",
        columns=[*columns, "accuracy", "KL, nats"],
        rows=rows,
        note="Faithfulness on held-out prompts of the same search in each; 95 % bootstrap intervals over prompts.",
        footnote=footnote((arm.mark(arm.circuit) for arm in known.arms), errors) or "",
    )
