"""From a name, a folder or a loaded model to a checked LanguageModel."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

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
        hf, name = source, _name_of(source)
    else:
        name, location = _locate(source)
        if device is not None and device_map is not None:
            raise UsageError("give a device or a device_map, not both")
        family = family or family_of(str(_read(AutoConfig.from_pretrained, location, name).model_type))
        tokenizer = tokenizer or _tokenizer(location, name)
        hf = _weights(location, name, dtype, device, device_map)
    config: Any = getattr(hf, "config", None)
    model = LanguageModel(
        hf, tokenizer, name, family or family_of(str(getattr(config, "model_type", type(hf).__name__)))
    )
    check(model)
    return model


def default_device() -> torch.device:
    """CUDA if there is any, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


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
    if isinstance(source, Path) or text.startswith((".", "~", "/")) or path.exists():
        raise UsageError(f"{text}: no such folder; give a model folder, a Hugging Face id or bundled:NAME")
    return text, text


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _read(reader: Any, location: str, name: str, **options: Any) -> Any:
    try:
        return reader(location, **options)
    except OSError as error:
        raise UsageError(
            f"{name}: expected a model folder, a Hugging Face id or bundled:NAME, found {_first_line(error)}"
        ) from error
    except _DAMAGE as error:
        raise GossamerError(
            f"{name}: could not be read ({type(error).__name__}: {_first_line(error)}); "
            f"check the files or fetch them again"
        ) from error


def _tokenizer(location: str, name: str) -> Any:
    try:
        return _read(AutoTokenizer.from_pretrained, location, name)
    except GossamerError as error:
        found = _first_line(error.__cause__ or error)
        raise UsageError(f"{name}: no usable tokenizer ({found}); add tokenizer files or give tokenizer=") from error


def _weights(
    location: str, name: str, dtype: torch.dtype | None, device: str | torch.device | None, device_map: Any
) -> PreTrainedModel:
    options: dict[str, Any] = {"dtype": dtype or "auto", "output_loading_info": True}
    if device_map is not None:
        options["device_map"] = device_map
    hf, report = _read(AutoModelForCausalLM.from_pretrained, location, name, **options)
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise GossamerError(
            f"{name}: expected weights for every parameter, found none for {missing[0]} "
            f"({len(missing)} missing); the checkpoint is incomplete or of another architecture"
        )
    if device_map is None:
        target = torch.device(device) if device is not None else default_device()
        halves_on_cpu = dtype is None and target.type == "cpu" and hf.dtype == torch.float16
        hf = hf.to(target, torch.float32) if halves_on_cpu else hf.to(target)
    return hf
