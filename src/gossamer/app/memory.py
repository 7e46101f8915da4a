"""Whether a model fits into the memory of this machine, before it is loaded."""

from pathlib import Path

from gossamer.errors import GossamerError

_MEMINFO = Path("/proc/meminfo")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")


def require_memory(source: str, available: int | None = None) -> None:
    """Refuse a local model whose files alone are larger than the memory that is free: loading it would end the server.

    Args:
        source: a folder or file; names of other places are let through.
        available: bytes; None asks the system, where it says.

    Raises:
        GossamerError: saying how much is missing.
    """
    path, free = Path(source), _available() if available is None else available
    files = path.glob("*") if path.is_dir() else [path] if path.is_file() else []
    needed = sum(one.stat().st_size for one in files if one.suffix in _WEIGHTS and one.is_file())
    if free is not None and needed > free:
        raise GossamerError(
            f"model {path.name}: {needed / 1e9:.1f} GB of weights do not fit into the {free / 1e9:.1f} GB of memory "
            "that are free; close other programs, or view the run on a larger machine"
        )


def _available() -> int | None:
    """Free memory in bytes; None where the system has no such file."""
    if not _MEMINFO.is_file():
        return None
    lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
    return int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else None
