"""The example that goes from a model and text to circuits, run on the bundled model."""

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gossamer.circuits.task_study import TaskStudy
from gossamer.dictionary import DictionarySet

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
STORY = "Once upon a time a girl found a red box near the river. She gave it to her friend, and they were happy. "

pytestmark = pytest.mark.slow


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import real_model

    # One structure, for speed.
    monkeypatch.setattr(real_model, "AGREEMENT", ("sva-simple",))
    return real_model


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    stories, paragraphs = tmp_path / "stories.jsonl", tmp_path / "paragraphs.jsonl"
    for file, n in ((stories, 30), (paragraphs, 10)):
        file.write_text("".join(json.dumps({"text": STORY * (1 + row % 3)}) + "\n" for row in range(n)))
    given = {"--stories": stories, "--paragraphs": paragraphs, "--out": tmp_path / "out", "--n-sentences": 200}
    small = {"--tokens": 4096, "--n-latents": 128, "--k": 16, "--steps": 2, "--reruns": 0, "--prompts": 128}
    return ["bundled:spool", *(str(word) for one in (given | small).items() for word in one)]


def written(folder: Path) -> dict[Path, int]:
    """When each file was written: what is made again, to the byte, is work done twice. A study's page is drawn anew."""
    pages = ("study.html", "study.png", "study.svg", "tables.md")
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name not in pages}


def test_one_command_goes_from_text_to_circuits_and_does_nothing_twice(
    example: ModuleType, command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = Path(command[command.index("--out") + 1])
    monkeypatch.setattr(sys, "argv", ["real_model.py", *command, "--layers", "1,3"])
    example.main()
    steps = [line.split()[1] for line in capfd.readouterr().out.splitlines() if line.startswith("gossamer ")]
    assert steps == ["train", "study-circuits", "study-circuits"]
    assert [site.layer for site in DictionarySet.load([out / "training" / "dictionaries"])] == [1, 3]
    (simple,), (indirect,) = (TaskStudy.load(out / name).tasks for name in ("agreement", "indirect-objects"))
    assert simple.training + simple.held_out <= 128 * 5 // 16
    assert (out / "agreement" / simple.folder / "findings.json").exists()
    # Dictionaries of so few tokens keep nothing of it: that is said, and is no error of the command.
    assert indirect.name == "ioi"
    assert "the dictionaries together keep -" in indirect.refused
    before = written(out)
    example.main()
    assert written(out) == before


def test_what_fails_has_said_why_and_nothing_follows(
    example: ModuleType, command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["real_model.py", *command, "--layers", "99"])
    with pytest.raises(SystemExit) as stopped:
        example.main()
    assert stopped.value.code
    said = capfd.readouterr()
    assert "99" in said.err
    assert "study-circuits" not in said.out
