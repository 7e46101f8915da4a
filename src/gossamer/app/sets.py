"""Sets of dictionaries of a run: those that it holds, and those that its circuits name."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gossamer.app.run_folder import Part, RunFolder
from gossamer.app.saved_dictionaries import dictionary_folder
from gossamer.app.schema.dictionaries import DictionaryFacts, SetFacts
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.inputs import located
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.formats import hub
from gossamer.dictionary.set import DictionarySet
from gossamer.errors import GossamerError, UsageError
from gossamer.features.feature import Feature
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


def found_set(run: RunFolder, identifier: str) -> FoundSet:
    """The set of that id: its own, or that of the circuit which names it. Errors: as :meth:`RunFolder.content`."""
    part, content = run.content(identifier, *KINDS)
    shapes = dict(content) if isinstance(content, DictionarySet) else dict(_named(content, part.path.parent))
    return FoundSet(part, content, shapes)


def all_sets(run: RunFolder) -> Iterator[FoundSet]:
    """Each set once: the run's own, then those that circuits name and that lie elsewhere."""
    seen: set[Any] = set()
    for kind in KINDS:
        for part in run.parts().values():
            reading = run.read(part) if part.kind == kind else None
            if reading is None or reading.content is None:
                continue
            keys = set(_keys(part, reading.content))
            if not keys <= seen or kind == "dictionaries":
                yield found_set(run, part.id)
            seen |= keys


def circuits_with(run: RunFolder, found: FoundSet) -> list[str]:
    """Circuits of the run in the same dictionaries, the one that names the set first."""
    keys, known = set(_keys(found.part, found.content)), []
    for part in run.parts().values():
        circuit = run.read(part).content if part.kind == "circuit" else None
        if circuit is not None and keys == set(_keys(part, circuit)):
            known.append(part.id)
    return sorted(known, key=lambda one: one != found.part.id)


def why_not_live(circuit: Circuit) -> str | None:
    """Why a circuit cannot be measured anew; None if it can."""
    if circuit.inputs is None or circuit.inputs.task is None:
        return "its file does not record what it was made with; make it again with this version"
    return None


def circuit_with(run: RunFolder, found: FoundSet) -> str | None:
    """A circuit of the run whose prompts the set's latents can be seen on."""
    known = circuits_with(run, found)
    return next((one for one in known if why_not_live(run.content(one, "circuit")[1]) is None), None)


def _keys(part: Part, content: DictionarySet | Circuit) -> Iterator[tuple[str, str]]:
    """Site and folder of each dictionary."""
    if isinstance(content, DictionarySet):
        yield from ((str(site), str(dictionary_folder(part.path, site))) for site in content)
    elif content.inputs is not None:
        for site, one in content.inputs.dictionaries.items():
            source = located(one.source or "", part.path.parent)
            yield site, source if hub.is_reference(source) else str(Path(source).resolve())
    else:
        yield "", part.id


def dictionary_source(found: FoundSet, site: str) -> str | None:
    """Where the files of a set's dictionary are: a folder, or a reference of the hub; None where nothing says it."""
    if not isinstance(found.content, Circuit):
        return str(dictionary_folder(found.part.path, site))
    known = None if found.content.inputs is None else found.content.inputs.dictionaries.get(site)
    return None if known is None or known.source is None else located(known.source, found.part.path.parent)


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


def nodes_of(run: RunFolder, circuits: Iterable[str]) -> Counter[Feature]:
    """How many nodes of some circuits each latent is."""
    return Counter(node.feature for one in circuits for node in run.content(one, "circuit")[1].nodes)
