"""What the README shows runs: its Python blocks on the bundled model, its commands with the options they are given."""

import random
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.main import get_command

from gossamer import DictionarySet, LanguageModel, build_store, bundled, cli
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.search import SearchSettings
from gossamer.model import Site
from gossamer.steering import read_back
from gossamer.store import StoreSettings
from gossamer.tasks import ioi

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
SPOOL = bundled.path("spool")

# What the README names that is not here, or is large, and what stands for it in a test.
SUBSTITUTES = {
    '"HuggingFaceTB/SmolLM2-135M-Instruct"': '"bundled:spool"',
    '"smollm2/dictionaries"': repr(str(SPOOL / "dictionaries")),
    "n=512": "n=64",
    "size=50)  # or faithfulness=0.9": "size=20, search=SearchSettings(sizes=(20,), steps=40))",
    "collect_findings(found)": 'collect_findings(found, methods=["random"], reruns=0)',
    "n_latents=4096": "n_latents=64",
    "tokens=2_000_000": "tokens=8_192",
}


def blocks(page, language):
    """Heading and text of every block of code of a language."""
    heading = ""
    for found in re.finditer(r"^## ([^\n]*)$|^```(\w+)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
        heading = found[1] or heading
        if found[2] == language:
            yield heading, found[3]


PYTHON = dict(blocks(README, "python"))


def run(heading, names):
    """Run the section's Python in this namespace, with substitutes for what is not here."""
    code = PYTHON[heading]
    for shown, here in SUBSTITUTES.items():
        code = code.replace(shown, here)
    exec(compile(code, f"README.md: {heading}", "exec"), names)
    return names


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_python_block_and_every_substitute_is_used():
    assert list(PYTHON) == [
        "Ten lines for your own model",
        "Training dictionaries",
        "Dictionaries on their own",
        "What one latent is",
        "What latents did on a corpus",
        "Which features belong together",
        "Steering",
        "What features stand for",
        "How information moved",
        "JAX models",
    ]
    assert len(PYTHON) == len(list(blocks(README, "python")))
    assert [shown for shown in SUBSTITUTES if not any(shown in code for code in PYTHON.values())] == []


@pytest.mark.slow
def test_ten_lines():
    names = run("Ten lines for your own model", {"SearchSettings": SearchSettings})
    assert Circuit.load("ioi.json") == names["found"].circuit
    assert 0 < len(names["found"].circuit.nodes) <= 20
    assert Path("report/report.html").stat().st_size > 10_000


def test_training_on_your_own_activations():
    activations = torch.randn(1024, 16, generator=torch.Generator().manual_seed(0))
    trained = run("Training dictionaries", {"activations": activations})["trained"]
    assert (trained.d_in, trained.n_latents) == (16, 64)


def test_dictionaries_on_their_own(capsys):
    model = LanguageModel.load("bundled:spool")
    site = Site.parse("resid_post.2")
    texts = [prompt.clean_text for prompt in ioi.sample(random.Random(0), 8)]
    given = {"dictionaries": DictionarySet.load(SPOOL / "dictionaries"), "site": site, "held_out_texts": texts}
    run("Dictionaries on their own", {"model": model, **given})
    measured = {name: (float(l0), float(ce)) for name, l0, ce, _ in map(fields, capsys.readouterr().out.splitlines())}
    assert list(measured)[:2] == ["encoder", "its ten strongest latents"]
    assert all(0 < l0 <= 10 for name, (l0, _) in measured.items() if name != "encoder")
    assert measured["the same ten, best weights"][1] >= measured["its ten strongest latents"][1] > 0


def test_what_one_latent_is(capsys):
    texts = [prompt.clean_text for prompt in ioi.sample(random.Random(0), 8)]
    given = {"dictionaries": DictionarySet.load(SPOOL / "dictionaries"), "held_out_texts": texts}
    names = run(
        "What one latent is",
        {"model": LanguageModel.load("bundled:spool"), "site": Site.parse("resid_post.2"), **given},
    )
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == repr(names["cards"][names["chosen"][0]])
    assert len(printed) - 1 == len(names["cards"][names["chosen"][1]].examples)


def test_what_latents_did_on_a_corpus(capsys):
    texts = [prompt.clean_text for prompt in ioi.sample(random.Random(0), 8)]
    given = {"dictionaries": DictionarySet.load(SPOOL / "dictionaries"), "held_out_texts": texts}
    names = run(
        "What latents did on a corpus",
        {"model": LanguageModel.load("bundled:spool"), "site": Site.parse("resid_post.2"), **given},
    )
    assert names["found"].column_names == ["document", "position", "token", "text", "value"]
    assert "FeatureCard(resid_post.2/3, " in capsys.readouterr().out


def test_which_features_belong_together(capsys):
    texts = [prompt.clean_text for prompt in ioi.sample(random.Random(0), 12)]
    given = {"dictionaries": DictionarySet.load(SPOOL / "dictionaries"), "texts": texts}
    names = run("Which features belong together", {"model": LanguageModel.load("bundled:spool"), **given})
    assert len(names["relations"]) == len(given["dictionaries"]) - 1
    assert len(capsys.readouterr().out.splitlines()) == 3 * len(names["relations"])


def test_steering(capsys):
    texts = [prompt.clean_text for prompt in ioi.sample(random.Random(0), 12)]
    given = {"dictionaries": DictionarySet.load(SPOOL / "dictionaries"), "site": Site.parse("resid_post.2")}
    given |= {"texts": texts, "prompts": texts[:2]}
    names = run("Steering", {"model": LanguageModel.load("bundled:spool"), **given})
    (back,) = read_back(names["model"], names["push"], names["tokens"])
    assert back.asked == names["push"].coefficient.raw
    assert repr(back) in capsys.readouterr().out


def test_what_features_stand_for(capsys):
    model, dictionaries = LanguageModel.load("bundled:spool"), DictionarySet.load(SPOOL / "dictionaries")
    texts = [prompt.clean_text for prompt in ioi.sample(random.Random(0), 400)]
    site = next(iter(dictionaries))
    build_store(model, {site: dictionaries[site]}, texts, "store", settings=StoreSettings(words=0))
    names = run("What features stand for", {"dictionaries": {site: dictionaries[site]}})
    assert len(names["found"].explanations) == 20
    assert "activates" in capsys.readouterr().out


def test_how_information_moved(capsys):
    given = {"dictionaries": DictionarySet.load(SPOOL / "dictionaries"), "site": Site.parse("resid_post.2")}
    names = run("How information moved", {"model": LanguageModel.load("bundled:spool"), **given})
    checked, pairs = capsys.readouterr().out.splitlines()
    assert checked == repr(names["found"].check)
    assert pairs.count("Source(") == 10
    assert names["shares"].contributions.shape == (len(names["shares"]), 4, 6)


def test_a_tree_grown_by_hand():
    ((_, code),) = blocks(ROOT / "docs" / "attention.md", "python")
    names = {}
    exec(compile(code, "docs/attention.md", "exec"), names)
    found = names["tree"].trace
    assert len(found.nodes) == 40
    assert [found.nodes[number].parent for number in names["first"]] == [0] * 5


def test_jax_models():
    jax = pytest.importorskip("jax")
    from gossamer.jax import tag

    def apply(weights, x):
        def layer(x, w):
            return x + tag("mlp_out", jax.numpy.tanh(x @ w)), None

        return jax.lax.scan(layer, x, weights)[0]

    weights, x = jax.random.normal(jax.random.key(0), (13, 4, 4)), jax.numpy.ones((2, 4))
    names = run("JAX models", {"model": SimpleNamespace(apply=apply)})
    result, kept = names["steered"](weights, x, jax.numpy.ones(4))
    assert kept.shape == (2, 2, 4)
    before = apply(weights[:7], x)
    at_7 = before + jax.numpy.tanh(before @ weights[7]) + 1
    assert jax.numpy.allclose(result, apply(weights[8:], at_7), atol=1e-5)


def commands(page, program):
    """The arguments of every line of a program in the page's blocks of shell."""
    for _, block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if program in words:
                yield tuple(words[words.index(program) + 1 :])


def fields(line):
    """A printed name, which may have spaces, and the three numbers after it."""
    return line.rsplit(maxsplit=3)


# A line that asks for help has no options to check.
COMMANDS = [
    (page.name, *arguments)
    for page in PAGES
    for arguments in commands(page, "gossamer")
    if not {"--help", "-h"} & {*arguments}
]


def made(name, arguments):
    """What a command makes of its arguments: their types and choices are checked, and no work is done."""
    command, arguments = get_command(cli.app).commands[name], list(arguments)
    while hasattr(command, "commands"):
        name = arguments.pop(0)
        command = command.commands[name]
    return command.make_context(name, arguments).params


@pytest.mark.parametrize("shown", COMMANDS, ids=" ".join)
def test_commands_have_the_options_that_they_are_shown_with(shown):
    _, name, *arguments = shown
    made(name, arguments)


def test_an_option_that_there_is_not_would_be_noticed():
    with pytest.raises(Exception, match="No such option"):
        made("circuit", ["bundled:spool", "--task", "ioi", "--wish"])


def test_targets_of_make_are_those_of_the_makefile():
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    shown = [words[0] for words in commands(README, "make")]
    assert shown[:2] == ["demo", "test"]
    assert set(shown) <= set(targets)
