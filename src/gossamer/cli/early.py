"""What can be refused at once: paths with nothing there, names that nothing has, numbers that cannot be meant.

Options have these as callbacks, or commands call them before they import what computes: a mistake in the line costs no
seconds of imports and of reading a model. Nothing here may import torch, so that names stand here once more; a test
holds them to those of the library.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from gossamer import bundled
from gossamer.errors import UsageError
from gossamer.files import require_folder
from gossamer.locating import BUNDLED, locate

TASKS = ("ioi", "sva-simple", "sva-rc", "sva-within-rc", "sva-nounpp", "code-index", "code-key")
METRICS = ("logit_diff", "prob_diff", "logit_margin", "kl")
CIRCUIT_METHODS = (
    "mask",
    "reference recipe",
    "integrated gradients",
    "integrated gradients, signed",
    "integrated gradients by site",
    "integrated gradients by site, signed",
    "EAP-IG inputs",
    "EAP-IG inputs, signed",
    "attribution patching",
    "attribution patching, signed",
    "RelP",
    "RelP, signed",
    "activation difference",
    "random",
    "FAP-Synergy",
    "FAP-Synergy, signed",
    "greedy",
)
TRAINING_CONTROLS = ("frozen-decoder", "frozen-encoder", "soft-frozen", "random-model")
FAMILIES = ("template", "case", "roles", "profile")
CIRCUIT_CONTROLS = ("shuffled-latents",)
IOI_PARTS = ("ability", "patching", "paths", "noising", "trust", "latents", "sources", "scores", "survey")
CODING_METHODS = ("encoder", "rescaled", "shifted", "top_k", "refit", "gradient", "matching", "orthogonal")
MEASURES = ("jaccard", "sufficiency", "necessity", "mutual_information", "cosine", "pearson", "decoder_cosine")
MATCHINGS = ("best", "hungarian", "mutual")
# What names of dictionaries on the hub begin with.
DICTIONARY_NAMES = ("hub:", "saelens:", "gemma-scope-")
# What names of texts elsewhere begin with.
TEXT_NAMES = ("hub:", "datasets:")
EXPLAINERS = ("rule", "bills", "delphi", "np_max-act-logits", "output", "saebench")
RULE_SCORERS = ("detection", "detection_random", "detection_hard", "fuzzing", "fuzzing_active", "simulation")
CHAT_SCORERS = ("intruder", "saebench", "fade")
WRITING_SCORERS = ("clarity", "faithfulness")
MODEL_SCORERS = ("embedding", "surprisal", "intervention", *WRITING_SCORERS)
STEERING_UNITS = ("raw", "max_activation", "residual_norm")
STEERING_ROWS = ("pursuit", "gradient_clean_up", "sae_ts", "fgaa", "act_add", "caa", "pca")
STEERING_KINDS = ("feature_add", "clamp", "conditional_clamp", "floor", "cap", "scale")
# Graphs: they show one prompt, with what a reader made of the circuit.
PROMPT_FORMATS = ("neuronpedia", "circuit-tracer")
CIRCUIT_FORMATS = ("neuronpedia", "circuit-tracer", "graphml", "svg", "html")
LATENT_FORMATS = ("saedashboard", "neuronpedia-features")
DTYPES = ("float32", "bfloat16", "float16", "float64")

_FACTS = ("site", "model_name", "format", "norm_scaling_factor")
# Endings of files of prompts, as gossamer.tasks.published has them.
_PROMPTS = (".json", ".jsonl", ".csv")


def choice(option: str, value: str, allowed: Sequence[str]) -> str:
    """`value`, if it is allowed."""
    if value not in allowed:
        raise UsageError(f"{option}: expected one of {', '.join(allowed)}, found {value!r}")
    return value


def one_of(option: str, allowed: Sequence[str]) -> Callable[[Any], Any]:
    """A callback that refuses what is not allowed, where anything is given; of several, each that is not."""

    def check(value: Any) -> Any:
        for one in [value] if isinstance(value, str) else value or ():
            choice(option, one, allowed)
        return value

    return check


def from_least(option: str, least: int) -> Callable[[Any], Any]:
    """A callback that refuses smaller numbers."""
    return lambda value: value if value is None else at_least(option, value, least)


def at_least(option: str, value: int, least: int) -> int:
    """`value`, if it is no less."""
    if value < least:
        raise UsageError(f"{option}: at least {least} expected, found {value}")
    return value


def share(option: str, *, whole: bool) -> Callable[[float], float]:
    """A callback that refuses what is no share; 1 is one only if it may be the `whole`."""

    def check(value: float) -> float:
        if not 0 <= value <= 1 or (value == 1 and not whole):
            raise UsageError(f"{option}: a share from 0 to {'' if whole else 'less than '}1 expected, found {value}")
        return value

    return check


def compared(value: list[str] | None) -> list[str] | None:
    """A callback for methods to compare a circuit with: names, or "all" or "none" alone."""
    unknown = [method for method in value or () if method not in CIRCUIT_METHODS]
    if unknown and value not in (["all"], ["none"]):
        # Names hold commas of their own.
        allowed = " | ".join(CIRCUIT_METHODS)
        raise UsageError(f"--compare: some of {allowed}, or all or none alone expected, found {unknown[0]!r}")
    return value


def methods(value: Sequence[str]) -> list[str] | None:
    """What `--compare` names: None is all that are drawn unless they are named."""
    return None if list(value) == ["all"] else [] if list(value) == ["none"] else list(value)


def known_model(source: str | None) -> str | None:
    """A callback that refuses a bundled model that there is not, and a folder without a model."""
    if source is not None:
        locate(source)
    return source


def require_dictionaries(sources: Sequence[str] | None, model: str | None = None) -> None:
    """Refuse dictionaries that are not there, and none for a `model` that comes without."""
    for source in sources or ():
        if source.startswith(BUNDLED):
            bundled.path(source.removeprefix(BUNDLED))
        elif not source.startswith(DICTIONARY_NAMES) and not Path(source).exists():
            raise UsageError(
                f"{source}: no such file or folder; give a dictionary's folder, hub:owner/repo/path, "
                "saelens:RELEASE/ID or gemma-scope-.../..."
            )
    if not sources and model is not None and not model.startswith(BUNDLED):
        raise UsageError("--dictionaries: expected a folder or hub:REPO/PATH; train some with 'gossamer train'")


def result_file(given: Path, name: str) -> Path:
    """The file of this name in the `--out` of a command, or one that was given itself; refuses what is not there."""
    path = given / name if given.is_dir() else given
    if not path.is_file():
        raise UsageError(f"{path}: no such file; give a {name}, or the --out of the command that wrote it")
    return path


def some_text(option: str) -> Callable[[Any], Any]:
    """A callback that refuses texts with nothing in them."""

    def check(value: Any) -> Any:
        if any(not one.strip() for one in ([value] if isinstance(value, str) else value or ())):
            raise UsageError(f"{option}: some text expected, found none; give a word at least")
        return value

    return check


def writable_folder(folder: Path | None) -> Path | None:
    """A callback that refuses a folder that nothing could be written into."""
    if folder is not None:
        require_folder(folder)
    return folder


def writable_file(path: Path | None) -> Path | None:
    """A callback that refuses a file that could not be written."""
    if path is not None:
        if path.is_dir():
            raise UsageError(f"{path}: the name of a file expected, found a folder; give a file in it")
        require_folder(path.parent)
    return path


def dictionary_facts(given: Sequence[str] | None) -> dict[str, Any]:
    """What `--fact` said, as arguments of :meth:`Dictionary.load`."""
    found: dict[str, Any] = {}
    for fact in given or ():
        name, equals, value = fact.partition("=")
        if name not in _FACTS or not equals or not value or name in found:
            raise UsageError(f"--fact: each of {'=, '.join(_FACTS)}= once expected, with a value, found {fact!r}")
        try:
            found[name] = float(value) if name == "norm_scaling_factor" else value
        except ValueError:
            raise UsageError(f"--fact: norm_scaling_factor=NUMBER expected, found {fact!r}") from None
    return found


def require_texts(paths: Iterable[Path]) -> None:
    """Refuse a text that is not there."""
    for path in paths:
        if not str(path).startswith(TEXT_NAMES) and not path.exists():
            raise UsageError(f"{path}: no such file; give the path of an existing file or folder of text")


def require_task(name: str | None) -> None:
    """Refuse a task that does not exist, and a file of prompts that is not there."""
    if name is None or Path(name).is_file():
        return
    if name.lower().endswith(_PROMPTS):
        raise UsageError(
            f"{name}: no such file; give the path of an existing file of prompts (JSON, JSON lines or CSV)"
        )
    if name not in TASKS:
        raise UsageError(f"task: expected one of {', '.join(TASKS)}, or a file of prompts; found {name!r}")


def require_whole_judge(option: str, endpoint: str | None, name: str, *, local: bool) -> None:
    """Refuse half a language model: a server or a place without its name, or a name without a server or a place."""
    if (endpoint is not None or local) != bool(name) or (endpoint is not None and local):
        raise UsageError(
            f"{option}: --endpoint or --local with {option}, or none of them, expected; give the missing one"
        )


def require_store(url: str | None) -> None:
    """Refuse a local folder that is no feature store; URLs are looked at later."""
    if url is not None and "://" not in url and not (Path(url) / "store.json").is_file():
        raise UsageError(f"{url}: a feature store expected, found no store.json; write one with 'gossamer store build'")


def require_relations(folder: Path) -> None:
    """Refuse a folder that is not there."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give the --out of gossamer relate or gossamer study-relations")


def require_files(paths: Iterable[Path] | None, what: str) -> None:
    """Refuse files that are not there."""
    for path in paths or ():
        if not path.is_file():
            raise UsageError(f"{path}: no such file; give the path of an existing file of {what}")


def engine_address(name: str | None, workers: int | None) -> str | None:
    """HOST:PORT of the cluster that `--engine` names, None if it names none; refuses one that is not there."""
    if name is None:
        if workers is not None:
            raise UsageError(f"--workers: --engine ray expected with it, found {workers} for this process; give both")
        return None
    kind, _, address = name.partition(":")
    if kind != "ray":
        raise UsageError(f"--engine: ray, or ray:HOST:PORT of a running cluster, expected, found {name!r}")

    from gossamer.engine import require_cluster

    require_cluster(address or None, workers)
    return address or None
