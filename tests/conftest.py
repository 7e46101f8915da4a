"""Fixtures for all rooms: a tiny random model with a real tokenizer, and the folder of real models."""

import os
import shutil
from pathlib import Path

import pytest
import shape_checks

# The cores are shared out among the processes of the test run, one thread each; sums are the same whoever runs beside.
for threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[threads] = "1"
# Triton settles with its first import whether kernels are interpreted, and others import it as well.
os.environ.setdefault("TRITON_INTERPRET", "1")
# Where there is Triton, sparsify uses it on a CPU as well, and fails.
os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")
shape_checks.install()

from word_model import tiny_gpt2_model, word_tokenizer  # noqa: E402

from gossamer import batching  # noqa: E402
from gossamer.model import LanguageModel  # noqa: E402


def pytest_collection_modifyitems(items):
    """Files with a slow test come first, so that of several processes none is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def tokenizer():
    return word_tokenizer()


@pytest.fixture
def tiny_gpt2(tokenizer):
    """A LanguageModel: random 3-layer GPT-2, d_model 32, 4 heads, word tokens; the same weights every time."""
    return LanguageModel.load(tiny_gpt2_model(tokenizer), tokenizer=tokenizer)


@pytest.fixture(scope="session")
def real_folder():
    """The folder of real models, from GOSSAMER_REAL or beside the repository; skips where there is none."""
    default = Path(__file__).resolve().parents[1] / ".." / "shared" / "real"
    folder = Path(os.environ.get("GOSSAMER_REAL", default))
    if not (folder / "models").is_dir():
        pytest.skip(f"no real models at {folder}: set GOSSAMER_REAL to their folder")
    return folder.resolve()


@pytest.fixture(scope="session")
def browser():
    """The machine's Chromium, started once."""
    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    playwright = pytest.importorskip("playwright.sync_api")
    if program is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(autouse=True)
def nothing_remembered_of_memory(monkeypatch):
    """Batches that were halved in one test are whole again in the next."""
    monkeypatch.setattr(batching, "_fitted", {})
