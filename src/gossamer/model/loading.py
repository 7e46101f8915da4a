"""From a name, a folder or a loaded model to a checked LanguageModel."""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig
from transformers.utils import logging

from gossamer.batching import is_out_of_memory, named_when_out_of_memory
from gossamer.errors import GossamerError, UsageError
from gossamer.locating import Located, locate
from gossamer.model.check import check
from gossamer.model.families import family_of
from gossamer.model.family import Family
from gossamer.model.language_model import LanguageModel

_DAMAGE = (
    SafetensorError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    IndexError,
    UnpicklingError,
    struct.error,
)


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
        hf = _unwrapped(source)
        name = str(getattr(hf, "name_or_path", "") or type(hf).__name__)
    else:
        if device is not None and device_map is not None:
            raise UsageError("give a device or a device_map, not both")
        if str(device).startswith("mps"):
            raise UsageError("device mps: expected cuda or cpu (sums are taken in float64, which mps does not have)")
        found = locate(source)
        name = found.name
        config, _ = _read(PreTrainedConfig.get_config_dict, found)
        family = family or family_of(str(config.get("model_type")))
        tokenizer = tokenizer or _tokenizer(found)
        hf = _weights(found, dtype, device, device_map)
    _require_weights(hf)
    model_type = getattr(getattr(hf, "config", None), "model_type", type(hf).__name__)
    model = LanguageModel(hf, tokenizer, name, family or family_of(str(model_type)))
    check(model)
    return model


def _unwrapped(source: Any) -> Any:
    """The transformers model inside what torch.compile and PEFT wrap around it; adapters stay in its layers."""
    while True:
        if hasattr(source, "_orig_mod"):
            source = source._orig_mod
        elif hasattr(source, "peft_config") and hasattr(source, "get_base_model"):
            if source.active_peft_config.is_prompt_learning:
                raise UsageError(
                    f"{source.active_peft_config.peft_type}: expected an adapter inside the model's layers (such as "
                    f"LoRA), found one that puts virtual tokens before the prompt, which cannot be used"
                )
            source = source.get_base_model()
        else:
            return source


def _require_weights(hf: nn.Module) -> None:
    """Refuse a model whose weights are not there; what accelerate has put elsewhere it brings in when it is needed."""
    for name, module in hf.named_modules():
        own = [key for key, value in module.named_parameters(recurse=False) if value.is_meta]
        if own and not hasattr(module, "_hf_hook"):
            raise UsageError(
                f"a model without weights: {name}.{own[0]} is on the meta device; load it with from_pretrained, or "
                f"fill it with to_empty and load_state_dict"
            )


def default_device() -> torch.device:
    """CUDA if there is any, else the CPU: Apple's MPS has no float64, in which sums are taken."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _read(reader: Any, found: Located, **options: Any) -> Any:
    try:
        return reader(found.location, **found.options, **options)
    except OSError as error:
        if Path(found.location).is_dir():
            raise _unreadable(found.name, error) from error
        raise UsageError(
            f"{found.name}: expected a model folder, a GGUF file, a Hugging Face id or bundled:NAME, found: "
            f"{_first_line(error)}"
        ) from error
    except _DAMAGE as error:
        if is_out_of_memory(error):
            raise
        raise _unreadable(found.name, error) from error


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


def _tokenizer(found: Located) -> Any:
    if found.adapter is not None and any(found.adapter.glob("tokenizer*")):
        found = Located(found.name, str(found.adapter))
    try:
        with _quiet():
            tokenizer = _read(AutoTokenizer.from_pretrained, found)
    except GossamerError as error:
        cause = _first_line(error.__cause__ or error)
        raise UsageError(
            f"{found.name}: no usable tokenizer ({cause}); add tokenizer files (in Python, or give tokenizer=)"
        ) from error
    # Without tokenizer files transformers makes a tokenizer that knows the special tokens only.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise UsageError(f"{found.name}: no tokenizer files; add them (in Python, or give tokenizer=)")
    return tokenizer


def _weights(found: Located, dtype: torch.dtype | None, device: str | torch.device | None, device_map: Any) -> Any:
    target = usable_device(device) if device is not None else default_device()
    own: Any = torch.float32 if "gguf_file" in found.options else "auto"
    options: dict[str, Any] = {"dtype": dtype or own, "output_loading_info": True, "ignore_mismatched_sizes": True}
    if device_map is not None:
        options["device_map"] = device_map
    advice = "load it in bfloat16 (dtype=, --dtype), use a smaller model, or in Python spread it with device_map="
    with _quiet(), named_when_out_of_memory(f"while loading {found.name}", advice):
        hf, report = _read(AutoModelForCausalLM.from_pretrained, found, **options)
        _require_complete(report, found.name)
        if found.adapter is not None:
            from peft import PeftModel

            base, adapter = hf, Located(found.name, str(found.adapter))
            hf = _unwrapped(_read(lambda folder: PeftModel.from_pretrained(base, folder), adapter))
    if device_map is not None:
        return hf
    return hf.to(target, torch.float32) if dtype is None and is_slow(hf.dtype, target) else hf.to(target)


def is_slow(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a device has no instructions for a half precision, so that products take several times as long as in
    float32: float16 on every CPU, bfloat16 on those without AVX-512 or better (8 times, on two generations of AMD's).
    """
    if device.type != "cpu":
        return False
    return dtype == torch.float16 or (dtype == torch.bfloat16 and not _has_bfloat16())


def _has_bfloat16() -> bool:
    """Whether torch multiplies matrices of bfloat16 with oneDNN's kernels on this CPU."""
    found = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return found is not None and bool(found())


def usable_device(device: str | torch.device) -> torch.device:
    """The device, if tensors can be put there; a :class:`UsageError` says why not."""
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
