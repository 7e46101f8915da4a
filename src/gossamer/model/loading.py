"""From a name, a folder or a loaded model to a checked LanguageModel."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from gossamer.batching import is_out_of_memory, named_when_out_of_memory
from gossamer.errors import GossamerError, UsageError
from gossamer.model.check import check
from gossamer.model.families import family_of
from gossamer.model.family import Family
from gossamer.model.language_model import LanguageModel

_BUNDLED = "bundled:"
_DAMAGE = (SafetensorError, RuntimeError, ValueError, KeyError, TypeError, EOFError)


def load(
    source: str | Path | nn.Module,
    tokenizer: Any,
    dtype: torch.dtype | None,
    device: str | torch.device | None,
    device_map: Any,
    family: Family | None,
) -> LanguageModel:
    """See :meth:`LanguageModel.load`."""
    if isinstance(source, nn.Module):
        if dtype is not None or device is not None or device_map is not None:
            raise UsageError("a loaded model is used as it is: move or convert it before, and give no dtype or device")
        hf = getattr(source, "_orig_mod", source)  # what torch.compile wraps
        name = _name_of(hf)
    else:
        name, location = _locate(source)
        if device is not None and device_map is not None:
            raise UsageError("give a device or a device_map, not both")
        if str(device).startswith("mps"):
            raise UsageError("device mps: expected cuda or cpu (sums are taken in float64, which mps does not have)")
        config, _ = _read(PreTrainedConfig.get_config_dict, location, name)
        family = family or family_of(str(config.get("model_type")))
        tokenizer = tokenizer or _tokenizer(location, name)
        hf = _weights(location, name, dtype, device, device_map)
    model_type = getattr(getattr(hf, "config", None), "model_type", type(hf).__name__)
    model = LanguageModel(hf, tokenizer, name, family or family_of(str(model_type)))
    check(model)
    return model


def default_device() -> torch.device:
    """CUDA if there is any, else the CPU: Apple's MPS has no float64, in which sums are taken."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _name_of(hf: nn.Module) -> str:
    return str(getattr(hf, "name_or_path", "") or type(hf).__name__)


def _locate(source: str | Path) -> tuple[str, str]:
    """The model's name, and where transformers finds it."""
    text = str(source)
    if text.startswith(_BUNDLED):
        from gossamer import bundled

        return text, str(bundled.path(text.removeprefix(_BUNDLED)))
    path = Path(text).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UsageError(f"{path}: expected a model folder with config.json, found none")
        return text, str(path)
    if isinstance(source, Path) or text.startswith((".", "~", "/")) or text.count("/") > 1 or path.exists():
        raise UsageError(f"{text}: no such folder; give a model folder, a Hugging Face id or bundled:NAME")
    return text, text


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _read(reader: Any, location: str, name: str, **options: Any) -> Any:
    try:
        return reader(location, **options)
    except OSError as error:
        if Path(location).is_dir():
            raise _unreadable(name, error) from error
        raise UsageError(
            f"{name}: expected a model folder, a Hugging Face id or bundled:NAME, found: {_first_line(error)}"
        ) from error
    except _DAMAGE as error:
        if is_out_of_memory(error):
            raise
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> GossamerError:
    return GossamerError(
        f"{name}: could not be read ({type(error).__name__}: {_first_line(error)}); check the files or fetch them again"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither a bar nor a report while weights are read from disk: what is wrong is raised. Downloads show theirs."""
    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


def _tokenizer(location: str, name: str) -> Any:
    try:
        tokenizer = _read(AutoTokenizer.from_pretrained, location, name)
    except GossamerError as error:
        found = _first_line(error.__cause__ or error)
        raise UsageError(f"{name}: no usable tokenizer ({found}); add tokenizer files or give tokenizer=") from error
    # Without tokenizer files transformers makes a tokenizer that knows the special tokens only.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise UsageError(f"{name}: no tokenizer files; add them or give tokenizer=")
    return tokenizer


def _weights(
    location: str, name: str, dtype: torch.dtype | None, device: str | torch.device | None, device_map: Any
) -> PreTrainedModel:
    target = _usable(device) if device is not None else default_device()
    options: dict[str, Any] = {"dtype": dtype or "auto", "output_loading_info": True, "ignore_mismatched_sizes": True}
    if device_map is not None:
        options["device_map"] = device_map
    advice = "load it in bfloat16 (dtype=, --dtype), spread it with device_map=, or use a smaller model"
    with _quiet(), named_when_out_of_memory(f"while loading {name}", advice):
        hf, report = _read(AutoModelForCausalLM.from_pretrained, location, name, **options)
    _require_complete(report, name)
    if device_map is not None:
        return hf
    half_on_cpu = dtype is None and target.type == "cpu" and hf.dtype == torch.float16
    return hf.to(target, torch.float32) if half_on_cpu else hf.to(target)


def _usable(device: str | torch.device) -> torch.device:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device {str(device)!r} cannot be used: {_first_line(error)}") from error
    return torch.device(device)


def _require_complete(report: dict[str, Any], name: str) -> None:
    """Refuse what transformers would fill with random numbers."""
    if report["mismatched_keys"]:
        key, found, expected = sorted(report["mismatched_keys"])[0]
        raise GossamerError(
            f"{name}: expected weights {key} of shape {tuple(expected)} as config.json says, found {tuple(found)}; "
            f"the configuration is another model's"
        )
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise GossamerError(
            f"{name}: expected weights for every parameter, found none for {missing[0]} "
            f"({len(missing)} missing); the checkpoint is incomplete or of another architecture"
        )
