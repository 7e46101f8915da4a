"""Sets of dictionaries of a run: those that it holds, and those that its circuits name."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gossamer.app.run_folder import Part
from gossamer.app.schema.dictionaries import DictionaryFacts, SetFacts
from gossamer.app.workbench import UnknownError, Workbench
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.inputs import located
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.formats import hub
from gossamer.dictionary.set import DictionarySet
from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site

KINDS = ("dictionaries", "circuit")


class FoundSet(NamedTuple):
    """A set of dictionaries.

    Attributes:
        part: the file that holds or names it.
        content: of that file.
        shapes: each dictionary with facts and shapes and no weights; None where its files are elsewhere.
    """

    part: Part
    content: DictionarySet | Circuit
    shapes: Mapping[Site, Dictionary | None]

    @property
    def circuit(self) -> Circuit | None:
        """The circuit that names the set, if it is not the run's own."""
        return self.content if isinstance(self.content, Circuit) else None

    @property
    def model(self) -> str | None:
        """The title of the model."""
        return self.content.model if isinstance(self.content, Circuit) else self.content.model_name


def found_set(bench: Workbench, identifier: str) -> FoundSet:
    """The set of that id: its own, or that of the circuit which names it. Errors: as :meth:`Workbench.content`."""
    part = bench.run.part(identifier)
    if part is None or part.kind not in KINDS:
        known = ", ".join(one.id for one in bench.run.parts().values() if one.kind in KINDS)
        raise UnknownError(
            f"{identifier!r}: dictionaries, or a circuit that names some, expected; found {known or 'none'}"
        )
    _, content = bench.content(identifier, part.kind)
    shapes = dict(content) if isinstance(content, DictionarySet) else dict(_named(content, part.path.parent))
    return FoundSet(part, content, shapes)


def all_sets(bench: Workbench) -> Iterator[FoundSet]:
    """Each set once: the run's own, then those that circuits name and that lie elsewhere."""
    seen: set[Any] = set()
    for kind in KINDS:
        for part in bench.run.parts().values():
            reading = bench.run.read(part) if part.kind == kind else None
            if reading is None or reading.content is None:
                continue
            keys = set(_keys(part, reading.content))
            if not keys <= seen or kind == "dictionaries":
                yield found_set(bench, part.id)
            seen |= keys


def circuit_with(bench: Workbench, found: FoundSet) -> str | None:
    """A circuit of the run whose prompts the set's latents can be seen on: one of the same dictionaries."""
    if found.circuit is not None:
        return found.part.id if found.circuit.inputs is not None and found.circuit.inputs.task is not None else None
    keys = set(_keys(found.part, found.content))
    for part in bench.run.parts().values():
        circuit = bench.run.read(part).content if part.kind == "circuit" else None
        named = circuit is not None and circuit.inputs is not None and circuit.inputs.task is not None
        if named and keys == set(_keys(part, circuit)):
            return part.id
    return None


def _keys(part: Part, content: DictionarySet | Circuit) -> Iterator[tuple[str, str]]:
    """Site and folder of each dictionary."""
    if isinstance(content, DictionarySet):
        yield from ((str(site), str(part.path.parent / str(site))) for site in content)
    elif content.inputs is not None:
        for site, one in content.inputs.dictionaries.items():
            source = located(one.source or "", part.path.parent)
            yield site, source if hub.is_reference(source) else str(Path(source).resolve())
    else:
        yield "", part.id


def _named(circuit: Circuit, beside: Path) -> Iterator[tuple[Site, Dictionary | None]]:
    for site in circuit.sites:
        known = None if circuit.inputs is None else circuit.inputs.dictionaries.get(str(site))
        yield site, None if known is None or known.source is None else _shape(known.source, site, beside)


def _shape(source: str, site: Site, beside: Path) -> Dictionary | None:
    """Without its weights; None of what is not on this machine, or is damaged: loading it says so."""
    try:
        where = located(source, beside)
        return None if hub.is_reference(where) else Dictionary.load(where, site=site, device="meta")
    except (GossamerError, UsageError):
        return None


def set_facts(found: FoundSet, run: Path) -> SetFacts:
    """What a list says of a set."""
    circuit = found.circuit
    name = found.part.path.parent.relative_to(run).as_posix() if circuit is None else f"those of {found.part.id}"
    return SetFacts(
        id=found.part.id,
        name=run.name if name == "." else name,
        model=found.model,
        circuit=None if circuit is None else found.part.id,
        dictionaries=[_facts(site, one) for site, one in found.shapes.items()],
    )


def _facts(site: Site, dictionary: Dictionary | None) -> DictionaryFacts:
    if dictionary is None:
        return DictionaryFacts(site=str(site))
    return DictionaryFacts(
        site=str(site),
        architecture=dictionary.architecture,
        n_latents=dictionary.n_latents,
        d_in=dictionary.d_in,
        k=dictionary.k,
        l0=dictionary.reported.l0,
        explained_variance=dictionary.reported.explained_variance,
    )


def loading(bench: Workbench, found: FoundSet) -> str:
    """Lines of Python that load `model` and `dictionaries` as the page has them, and say how texts begin (`bos`)."""
    if found.circuit is not None:
        return (
            "from gossamer.circuits.evaluate.rerun import restore_circuit\n\n"
            f"study = restore_circuit({str(found.part.path)!r}).study\n"
            "model, dictionaries, bos = study.model, study.dictionaries, study.task.bos or None"
        )
    inputs = bench.inputs(found.part.id)
    dtype = f", dtype=torch.{inputs.model.dtype}" if inputs.model.dtype else ""
    return (
        f"{'import torch' + chr(10) if dtype else ''}from gossamer import DictionarySet, LanguageModel\n\n"
        f"model = LanguageModel.load({inputs.source!r}{dtype})\n"
        f"dictionaries, bos = DictionarySet.load({str(found.part.path.parent)!r}), {inputs.bos!r}"
    )
