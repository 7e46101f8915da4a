"""Which weights a module has: names and paths say too little, since files are overwritten and folders are copied."""

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn


def weights_sha256(module: nn.Module) -> str | None:
    """SHA-256 of all parameters and buffers that are saved, with their names, shapes and types.

    None where weights are not in memory (offloaded by accelerate). Cost: the weights are read once, about a second a
    gigabyte; memory: the largest of them on the CPU.
    """
    digest = hashlib.sha256()
    for name, weight in sorted(module.state_dict().items()):
        if weight.device.type == "meta":
            return None
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype};".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def arrays_sha256(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 of the bytes of arrays, one after the other; of their shapes and types it knows nothing."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
