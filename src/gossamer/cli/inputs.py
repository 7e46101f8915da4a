"""From what was typed to what the library takes; what cannot be meant is refused before any work."""

import contextlib
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from gossamer.errors import UsageError


@contextlib.contextmanager
def engine(name: str | None, workers: int | None, network: Any) -> Iterator[Any]:
    """Who does the work on a model, by `--engine` and `--workers`."""
    from gossamer.cli.early import engine_address
    from gossamer.engine import ThisProcess, ray_cluster

    if name is None:
        yield ThisProcess()
        return
    gpus = 1.0 if network.device.type == "cuda" else 0.0
    with ray_cluster(engine_address(name, workers), workers=workers, gpus=gpus) as found:
        yield found


def numbers(option: str, text: str) -> list[int]:
    """`text` as whole numbers between commas."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise UsageError(f"{option}: expected numbers as 2,4,6, found {text!r}")
    return [int(part) for part in parts]


def decimals(option: str, text: str) -> list[float]:
    """Numbers separated by commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option}: expected numbers separated by commas, as 0.3,1,3, found {text!r}") from None


def token_mask(special: bool, louder: float | None, positions: str | None, sites: Sequence[Any]) -> Any:
    """Which tokens count, by the options that leave some out beside BOS and attention sinks."""
    from gossamer.activations import LoudTokens, TokenMask

    loud = None if louder is None else LoudTokens(max(sites), louder)
    return TokenMask(special=not special, loud=loud, positions=None if positions is None else _slice(positions))


def _slice(text: str) -> tuple[int | None, ...]:
    try:
        found = tuple(int(part) if part.strip() else None for part in text.split(":"))
    except ValueError:
        found = ()
    if not 2 <= len(found) <= 3:
        raise UsageError(f"--positions: START:STOP expected, as 1: or :-5, found {text!r}")
    return found


def words(text: str) -> list[str]:
    """`text` as words between commas."""
    return [word.strip() for word in text.split(",")]


def language_model(source: str, device: str | None, dtype: str | None, family: Path | None) -> Any:
    """The model, on a device and of a type, of a family that a file describes if there is one."""
    import torch

    from gossamer.model import Family, LanguageModel

    kind = None if dtype is None else getattr(torch, dtype)
    described = None if family is None else Family.read(family)
    return LanguageModel.load(source, device=device, dtype=kind, family=described)


def dictionary_set(
    model: Any,
    source: str,
    given: Sequence[str] | None,
    *,
    facts: dict[str, Any] | None = None,
    allow_other_model: bool = False,
) -> Any:
    """The dictionaries that were named, else those of the bundled model `source`, on the model's device."""
    from gossamer.dictionary import DictionarySet
    from gossamer.dictionary.attach import require_model

    if given:
        found = DictionarySet.load(given[0] if len(given) == 1 else given, **(facts or {}))
        if not allow_other_model:
            require_model(model, found)
        return found.to(model.device)
    if facts:
        raise UsageError("--fact: for dictionaries that are named with -d; leave it out")
    return DictionarySet.load(source).to(model.device)


def control_sets(
    model: Any, treated: Any, kinds: Sequence[str] | None, folders: Sequence[str] | None, seed: int
) -> dict[str, Any]:
    """What the circuit's dictionaries are held against, by what was done to them, on the model's device."""
    from gossamer.circuits.evaluate.against_controls import require_alike, shuffled_latents
    from gossamer.dictionary import DictionarySet
    from gossamer.training.controls import NONE, control_of

    found: dict[str, Any] = {kind: shuffled_latents(treated, seed) for kind in kinds or ()}
    for folder in folders or ():
        dictionaries = DictionarySet.load(folder)
        said = {control_of(dictionary) for dictionary in dictionaries.values()}
        name = said.pop() if len(said) == 1 and NONE not in said else Path(folder).name
        if name in found:
            name = f"{name} ({Path(folder).name})"
        if name in found:
            raise UsageError(f"--control-dictionaries: folders of different names expected, found {name} twice")
        require_alike(name, treated, dictionaries)
        found[name] = dictionaries.to(model.device)
    return found


def prices(text: str) -> Any:
    """What `--price` says."""
    found = decimals("--price", text)
    if len(found) != 2 or min(found) < 0:
        raise UsageError(f"--price: INPUT,OUTPUT expected, as 0.15,0.6, found {text!r}")

    from gossamer.chat import Prices

    return Prices(*found)


def chat(
    endpoint: str | None,
    name: str,
    cost: Any,
    max_cost: float | None,
    cache: Path,
    *,
    local: bool = False,
    structured: bool = False,
    concurrency: int = 8,
) -> Any:
    """The language model that is asked, at a server that is there or in this process; None where no name is given."""
    if not name:
        return None

    from gossamer.chat import Endpoint, EndpointSettings, LocalChat

    if local:
        return LocalChat(language_model(name, None, None, None))
    settings = EndpointSettings(
        str(endpoint),
        name,
        concurrency=concurrency,
        structured=structured,
        prices=cost,
        max_cost=max_cost,
        cache=cache,
    )
    found = Endpoint(settings)
    found.require_model()
    return found


@contextlib.contextmanager
def feature_store(url: str | None) -> Iterator[Any]:
    """The store that was named, open; None if none was."""
    if url is None:
        yield None
        return
    from gossamer.store import FeatureStore

    with FeatureStore(url) as found:
        yield found


def by_folder(sources: Sequence[str]) -> dict[str, str]:
    """Each source under the part of its path that tells it from the others."""
    if len(set(sources)) < len(sources):
        raise UsageError(f"--dictionaries: each folder once expected, found {', '.join(sources)}")
    parts = [Path(source.removeprefix("hub:")).parts for source in sources]
    if len(parts) == 1:
        return {parts[0][-1]: sources[0]}
    common = _shared(parts)
    tail = _shared([part[common:][::-1] for part in parts])
    names = ["/".join(part[common : len(part) - tail]) or part[-1] for part in parts]
    return dict(zip(names, sources, strict=True))


def _shared(parts: Sequence[Sequence[str]]) -> int:
    """How many first parts all have in common."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False)))


def reading(name: str, metric: str | None, roles: str | None, length: int | None) -> dict[str, Any]:
    """How a task is read and measured, as options of `open_task`; what does not go together is refused."""
    from gossamer.tasks.published import is_file

    found = {"roles": roles, "length": length}
    given = {option: value for option, value in found.items() if value is not None}
    if given and (not is_file(name) or is_saved(name)):
        what = "a saved task, which keeps its own" if is_file(name) else "no file of prompts"
        raise UsageError(f"--{', --'.join(given)}: for a file of prompts; {name} is {what}: leave the option out")
    return {**given, "metric": metric}


def task(
    name: str,
    tokenizer: Any,
    *,
    bos: bool | None,
    prompts: int | None,
    seed: int,
    how: dict[str, Any] | None = None,
    split_by: Any = "text",
) -> Any:
    """A generated task, or one from a file, read as `how` says: options that a file leaves no room for are refused.

    `split_by` None divides training and test by words where the prompts allow it; a saved task keeps its own sides.
    """
    from gossamer.tasks.published import is_file, open_task

    how = how or {"metric": None}
    metric, options = how["metric"], {option: value for option, value in how.items() if option != "metric"}
    if not is_file(name):
        found = open_task(name, tokenizer, n=prompts, bos=bos, seed=seed, split_by=split_by)
        return found if metric is None else found.measured_by(metric)
    if prompts is not None:
        raise UsageError(f"--prompts: for tasks that are generated; {name} has its own prompts: leave the option out")
    if bos is not None and is_saved(name):
        raise UsageError(f"--bos: {name} is a saved task, which keeps its own: leave the option out")
    if split_by == "word" and is_saved(name):
        raise UsageError(f"--split-by: {name} is a saved task, which keeps its own sides: leave the option out")
    found = open_task(name, tokenizer, bos=bos, seed=seed, split_by=split_by, **options)
    return found if metric is None else found.measured_by(metric)


def without_templates(task: Any, wanted: str | None, tokenizer: Any) -> tuple[Any, Any]:
    """A task without the templates that are set aside, and the task of these; None where none are."""
    from gossamer.tasks.unseen_templates import set_aside

    return (task, None) if wanted is None else set_aside(task, wanted, tokenizer)


def is_saved(name: str) -> bool:
    """Whether a task's name is that of a file that gossamer saved."""
    from gossamer.tasks import published, storage

    return published.is_file(name) and storage.is_saved(name)


def other_circuits(paths: Sequence[Path] | None) -> list[Any]:
    """Circuits of other tasks."""
    from gossamer.circuits.circuit import Circuit

    return [Circuit.load(path) for path in paths or ()]


def require_other(circuits: Sequence[Any], model: Any, task: Any) -> None:
    """Refuse circuits that could flag nothing: of another model, or of the task itself."""
    for circuit in circuits:
        if circuit.model != model.title or circuit.task == task.name:
            raise UsageError(
                f"--other: a circuit of {model.title} for another task than {task.name} expected, "
                f"found one of {circuit.model} for {circuit.task}; leave it out"
            )
