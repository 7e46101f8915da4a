"""What `import gossamer` offers: every promised name resolves, is listed, and costs nothing before it is used."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import gossamer
from gossamer import toys

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("package", [gossamer, toys], ids=lambda package: package.__name__)
def test_every_promised_name_resolves_and_is_listed(package):
    assert sorted(package.__all__) == package.__all__
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)


def test_the_readme_imports_only_promised_names():
    imported = re.findall(r"^from gossamer import (.+)$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert imported
    assert {name.strip() for line in imported for name in line.split(",")} <= set(gossamer.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="gossamer"):
        gossamer.no_such_name  # noqa: B018


def test_the_version_is_the_distributions():
    assert gossamer.__version__ == version("gossamer")


@pytest.mark.parametrize(
    "command", [[sys.executable, "-m", "gossamer"], [str(Path(sys.executable).parent / "gossamer")]]
)
def test_the_command_line_tells_its_version(command):
    said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == f"gossamer {version('gossamer')}"


def test_importing_gossamer_loads_neither_torch_nor_jax():
    program = "import gossamer, sys; dir(gossamer); print('torch' in sys.modules, 'jax' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False", "False"]
