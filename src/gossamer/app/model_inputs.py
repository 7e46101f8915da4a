"""Which model and dictionaries the parts of a run name, and how they are loaded again."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gossamer.app.run_folder import Part, RunFolder
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate.rerun import Dictionaries, circuit_dictionaries
from gossamer.circuits.inputs import ModelInput, located
from gossamer.dictionary.attach import require_fit, require_model
from gossamer.dictionary.set import DictionarySet
from gossamer.dictionary.training_tokens import TrainingTokens
from gossamer.display import short_repr
from gossamer.errors import GossamerError
from gossamer.model.language_model import LanguageModel
from gossamer.model.names import same_model, title_of
from gossamer.results import Record


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """What a part of a run was made with.

    Attributes:
        model: where the model is.
        beside: the folder from which relative paths are tried too.
        key: the same for the same dictionaries.
        dictionaries: loads them, for the model; None where the part names a model alone.
        bos: whether texts begin with BOS; None: as the tokenizer does.
    """

    model: ModelInput
    beside: Path
    key: Hashable
    dictionaries: Callable[[LanguageModel], Dictionaries] | None
    bos: bool | None = None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.model.source

    @property
    def source(self) -> str:
        """Where the model is now."""
        return located(self.model.source, self.beside)


def inputs_of(run: RunFolder, part: Part, content: Any, given: tuple[str, ...] = ()) -> ModelInputs:
    """What a part names: a circuit its inputs, dictionaries their model, other results the title of their model.

    A title alone is looked up among the models that are given and those that circuits of the run record with their
    paths; else it is taken for a path, or for an id of the hub.

    Args:
        run: the run.
        part, content: of the run.
        given: models that a user names, for parts that name one of the same title.

    Raises:
        GossamerError: the part names no model.
    """
    beside = part.path.parent
    if isinstance(content, Circuit):
        found = _of_circuit(content, beside)
    else:
        dictionaries = content if isinstance(content, DictionarySet) else None
        title = model_title(content)
        if title is None:
            raise GossamerError(f"{part.id}: names no model; give --model (a model of the same name)")
        load = None if dictionaries is None else _loader(beside)
        own = content.provenance.get("model") if isinstance(content, Record) else None
        known = _model(run, part, title)
        known = replace(known, source=own) if isinstance(own, str) and known.source == title else known
        found = ModelInputs(known, beside, (beside, part.modified), load, _bos(dictionaries or {}))
    chosen = next((one for one in given if same_model(one, title_of(found.model.source))), None)
    return found if chosen is None else replace(found, model=replace(found.model, source=chosen))


def _of_circuit(circuit: Circuit, beside: Path) -> ModelInputs:
    known = circuit.inputs

    def load(model: LanguageModel) -> Dictionaries:
        return circuit_dictionaries(circuit, None, beside, model)

    if known is None:
        return ModelInputs(ModelInput(circuit.model, None, "", ""), beside, circuit.sha256, load)
    key = tuple(
        (site, None if one.source is None else located(one.source, beside), one.sha256, one.dtype)
        for site, one in known.dictionaries.items()
    )
    bos = None if known.task is None else bool(known.task.get("bos")) or None
    return ModelInputs(known.model, beside, key, load, bos)


def _loader(folder: Path) -> Callable[[LanguageModel], Dictionaries]:
    def load(model: LanguageModel) -> Dictionaries:
        found = DictionarySet.load(folder, device=model.device)
        require_model(model, found)
        for site, one in found.items():
            require_fit(model, site, one)
        return found

    return load


def _bos(dictionaries: Dictionaries) -> bool | None:
    """What dictionaries agree on that their training's rows began with."""
    said = {TrainingTokens.of(one).bos for one in dictionaries.values()}
    return said.pop() if len(said) == 1 else None


def model_title(content: Any) -> str | None:
    """What a file of results calls its model; None where it names none."""
    if isinstance(content, DictionarySet):
        return content.model_name
    found = getattr(content, "model", None)
    settings = getattr(content, "settings", None)
    if found is None and isinstance(settings, Mapping):
        found = settings.get("model")
    return found if isinstance(found, str) else None


def _model(run: RunFolder, part: Part, title: str) -> ModelInput:
    """Where a model of that title is, by what else the run says; its type and hash by the training run around."""
    source, sha256, dtype = title, None, ""
    for other in run.parts().values():
        content = run.read(other).content if other.kind in ("training run", "circuit") else None
        if isinstance(content, Record) and other.path.parent in (part.path.parent, part.path.parent.parent):
            sha256, dtype = content.settings.get("weights_sha256"), content.settings.get("dtype", "")
            recorded = content.provenance.get("model", title)
        elif isinstance(content, Circuit) and content.inputs is not None:
            recorded = located(content.inputs.model.source, other.path.parent)
        else:
            continue
        if source == title and same_model(title_of(recorded), title):
            source = recorded
    return ModelInput(source, sha256, dtype, "")
