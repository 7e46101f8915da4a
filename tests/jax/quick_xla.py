"""XLA as quick as it can be: most programs of the tests run once, and are the same in the next run of the tests."""

import os
import tempfile
from pathlib import Path

FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def set_up() -> None:
    """Compile without optimisation, and keep what is compiled in a folder of this user for later runs.

    To be called before anything is computed: XLA reads its flags once.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if FLAGS not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {FLAGS}".strip()
    import jax

    folder = Path(tempfile.gettempdir()) / f"gossamer-tests-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Programs are machine code: a folder that somebody else has made is not believed.
    if not jax.config.jax_compilation_cache_dir and folder.lstat().st_uid == os.getuid():
        jax.config.update("jax_compilation_cache_dir", str(folder / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
