"""How objects show themselves: every public one in a line, and in a notebook as a table that escapes what it shows."""

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import pytest
import torch
from circuit_lab import able_task, mirror_dictionary, node_at, sites_of
from tiny_splice import tiny_model
from transformers import PretrainedConfig

import gossamer
from gossamer.circuits.circuit import FORMAT, Circuit, CircuitNode
from gossamer.circuits.evaluate.rerun import CircuitEvaluation
from gossamer.circuits.export import PlacedNode, graph_prompt
from gossamer.circuits.find import find_circuit
from gossamer.circuits.findings import collect_findings
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import StudySettings
from gossamer.dictionary import Dictionary, DictionarySet
from gossamer.display import LONGEST, brief, html_table, plural, short_repr
from gossamer.features import Feature, FeatureCard, FeatureExample, Histogram, feature_cards, logit_lens
from gossamer.features.examples import ExampleSettings
from gossamer.replacement.evaluate import evaluate
from gossamer.results import Record
from gossamer.tasks import GENERATORS, Piece, Prompt
from gossamer.tasks.preview import Preview
from gossamer.tokens import Tokens
from gossamer.toys import (
    PROGRAMS,
    SHARP,
    SuperpositionConfig,
    World,
    WorldConfig,
    align,
    compile_program,
    measure_recovery,
    score_features,
    train_superposition,
)
from gossamer.toys.superposition import FeatureGroup
from gossamer.training import (
    CorpusConfig,
    DictionarySpec,
    DictionaryTrainerConfig,
    FinetuneConfig,
    FitConfig,
    TaskPrompts,
    TrainingConfig,
    objectives,
    recipe_for,
)
from gossamer.training.dead_latents import Ghost, Resampling

ROOMS = ("", "circuits.export", "dictionary", "features", "model", "replacement", "replacement.evaluate", "results")
ROOMS += ("tasks", "toys", "training")
OBJECTIVES = (
    "L1",
    "NormWeightedL1",
    "BatchTopK",
    "Gated",
    "Matryoshka",
    "QuadraticL0",
    "StepL0",
    "TanhPenalty",
    "TopK",
)
# What holds the folder of a run while it is at work; a store is shown in the tests of its room.
NEVER_SHOWN = ["FeatureStore", "Recorder"]


@pytest.fixture(scope="module")
def found():
    model = tiny_model()
    sites = sites_of("resid_post.1", "resid_post.2")
    dictionaries = DictionarySet(mirror_dictionary(site, seed=seed) for seed, site in enumerate(sites))
    search = SearchSettings(sizes=(40, 20), steps=5, batch_size=6, learning_rate=0.3)
    return find_circuit(model, dictionaries, able_task(model), size=12, settings=StudySettings(seed=2), search=search)


@pytest.fixture(scope="module")
def shown(found):
    """One object or more of every public class."""
    study = found.study
    model, dictionaries, tokens = study.model, study.dictionaries, study.task.train.clean.tokens
    evaluated = collect_findings(found, methods=["random"], reruns=1, subsets=2)
    site, words = next(iter(dictionaries)), Tokens.full(torch.tensor([[1, 2, 3]]))
    toy = train_superposition(SuperpositionConfig(4, 2, groups=(FeatureGroup((0, 1), "correlated"),)), seed=0, steps=2)
    program, reader = PROGRAMS["reverse"], mirror_dictionary(site, dtype=torch.float32)
    world = World.of(WorldConfig(features=8, d=16, roots=2, branching=2, depth=1, rank=2, orthogonal_steps=0))
    aligned = align(reader.W_dec, world.directions)
    return [
        found,
        evaluated,
        CircuitEvaluation(found.circuit, "m", "t", 8, evaluated.budget, (), ()),
        feature_cards(model, dictionaries, [Feature(site, 0), Feature(site, 1)], tokens),
        logit_lens(model, dictionaries[site], [0]),
        evaluate(model, dictionaries, tokens),
        dictionaries[site].encode(torch.randn(3, 16, dtype=torch.float64)),
        Record({"site": "resid_post.1"}, (1, 2)),
        FORMAT,
        SHARP,
        GENERATORS,
        ExampleSettings(),
        PlacedNode(found.circuit.nodes[0].node, 3),
        graph_prompt(study.evaluator.splice, found.nodes, 0),
        model.attention_weights(0),
        model.generate(words, max_new_tokens=2),
        next(iter(model.stream(words, max_new_tokens=2))),
        toy,
        measure_recovery(reader, torch.eye(16), torch.rand(50, 16), torch.rand(50, 16)),
        world,
        aligned,
        score_features(aligned, reader, reader.encode, world.blocks(20, "shown")),
        compile_program(program.build(), program.vocabulary, max_length=3),
        TrainingConfig(),
        [getattr(objectives, name)() for name in OBJECTIVES],
        [
            DictionaryTrainerConfig(objective=objectives.L1(), dead_latents=strategy())
            for strategy in (Ghost, Resampling)
        ],
        FitConfig(tokens=5, batch=2),
        DictionarySpec("a", site, trainer=DictionaryTrainerConfig(n_latents=64)),
        recipe_for(model),
        CorpusConfig(),
        FinetuneConfig(),
        TaskPrompts(words, torch.zeros(len(words), 2, dtype=torch.long), ("ioi",), ("0f3a",)),
        list(gossamer.model.SITE_KINDS.values()),
    ]


def reachable(value: object, seen: set[int]) -> Iterator[object]:
    """Objects of gossamer's classes in `value`, of long sequences the first few items."""
    if id(value) in seen or isinstance(value, str | int | float | torch.Tensor | type | None):
        return
    seen.add(id(value))
    ours = type(value).__module__.startswith("gossamer.")
    # Networks of transformers' making print as those do.
    if ours and (isinstance(value, Dictionary) or not isinstance(value, torch.nn.Module | PretrainedConfig)):
        yield value
    inner: list[object] = []
    if isinstance(value, Mapping):
        inner += [*list(value)[:3], *list(value.values())[:3]]
    elif isinstance(value, tuple | list | set | frozenset):
        inner += list(value)[:3]
    if ours and hasattr(value, "__dict__"):
        inner += list(vars(value).values())
    for one in inner:
        yield from reachable(one, seen)


def public_classes() -> dict[str, type]:
    found = {}
    for room in ROOMS:
        module = importlib.import_module(f"gossamer.{room}".rstrip("."))
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) and not issubclass(value, BaseException):
                found[name] = value
    return found


def test_every_public_object_is_one_short_line(shown) -> None:
    seen, classes, wrong = set(), set(), {}
    for root in shown:
        for one in reachable(root, seen):
            text, name = repr(one), type(one).__name__
            classes.add(type(one))
            if not (name in text and len(text) <= LONGEST and text.isprintable()) and not name.startswith("_"):
                wrong[name] = text[: 2 * LONGEST]
    assert not wrong, "\n".join(wrong.values())
    assert sorted(name for name, one in public_classes().items() if one not in classes) == NEVER_SHOWN


def test_every_public_object_is_a_table_in_a_notebook(shown) -> None:
    seen, without = set(), set()
    for root in shown:
        for one in reachable(root, seen):
            show = getattr(one, "_repr_html_", None)
            if show is None:
                without.add(type(one))
                continue
            html = show()
            assert html.startswith(("<table", "<div")), type(one)
            assert "<script" not in html, type(one)
    # A named tuple, or a dataclass of one or two fields with Python's own line, says all in it.
    assert [one.__name__ for one in without if one.__repr__ is short_repr and not issubclass(one, tuple)] == []


def test_a_class_keeps_its_own_table() -> None:
    @dataclass(frozen=True)
    class Own:
        value: str

        __repr__ = short_repr

        def _repr_html_(self) -> str:
            return "<table>own</table>"

    assert Own("x")._repr_html_() == "<table>own</table>"
    html = Settings(3, names=(BAD,))._repr_html_()
    assert "Settings" in html
    assert "&lt;script&gt;" in html
    assert "<script" not in html


def test_a_line_says_what_a_reader_wants(found) -> None:
    said = repr(found)
    assert said.startswith("CircuitResult(by hand on GPT2LMHeadModel, ")
    assert f"{len(found.nodes)} nodes of " in said
    assert re.search(r"faithfulness [\d.]+\)$", said)
    assert repr(found.circuit).startswith(f"Circuit(by hand on GPT2LMHeadModel, {len(found.nodes)} nodes at 2 sites, ")
    assert repr(found.study.model) == "LanguageModel(GPT2LMHeadModel, GPT-2, 3 layers, d_model 16, float64 on cpu)"
    assert repr(found.study.dictionaries).endswith("2 dictionaries at resid_post.1, resid_post.2, relu)")
    assert repr(found.circuit.nodes[0]).startswith(f"CircuitNode({found.circuit.nodes[0].node}")


@dataclass(frozen=True)
class Settings:
    plain: int
    rate: float = 0.1
    names: tuple[str, ...] = ()
    values: torch.Tensor | None = None
    known: dict[str, int] = field(default_factory=dict)

    __repr__ = short_repr


def test_fields_that_have_their_defaults_are_left_out() -> None:
    assert repr(Settings(3)) == "Settings(plain=3)"
    assert repr(Settings(3, 0.1, ("a", "b"))) == "Settings(plain=3, names=('a', 'b'))"
    assert repr(Settings(3, values=torch.ones(2, 5))) == "Settings(plain=3, values=float32(2, 5))"
    assert repr(Settings(3, known=dict.fromkeys("abcdefgh", 1))) == "Settings(plain=3, known=<8 items>)"


def test_long_and_broken_text_is_cut_and_made_visible() -> None:
    assert len(repr(Settings(3, names=("x" * 500,)))) < 80
    assert len(repr(Settings(3, names=("x" * 500,) * 3, known=dict.fromkeys("abc", 1)))) < 80
    assert brief("a\nb\x1b[31m") == repr("a\nb\x1b[31m")
    words = (("a\nb\x1b[0m", 1.0),)
    card = FeatureCard(Feature(*sites_of("z.1"), 3), "m", 10, 1, 1.0, 0.0, 1.0, Histogram((), ()), words)
    assert repr(card).isprintable()
    assert "\\x1b" in repr(card)


BAD = "<script>alert(1)</script>"


def bad_objects(found) -> Iterator[object]:
    circuit = Circuit((CircuitNode(node_at("z.1", BAD, 3), 0.5),), "m", "t", sites_of("z.1"), (BAD,))
    yield circuit
    yield replace(found, circuit=circuit)
    yield Preview(((BAD, "S"),), ((BAD, "S"), (" x", "")), BAD, "b", "t", "")
    prompt = Prompt((Piece(BAD),), (Piece("other"),), BAD, "b", BAD)
    task = found.study.task
    yield replace(task, train=replace(task.train, prompts=(prompt,) * len(task.train)))
    example = FeatureExample((BAD, "b"), (1.0, 0.0), 0, 0)
    site = sites_of("z.1")[0]
    yield FeatureCard(Feature(site, 3), BAD, 9, 1, 1.0, 0.0, 1.0, Histogram((), ()), ((BAD, 1.0),), (), (example,))
    evaluator = found.study.evaluator
    budget = tuple(replace(one, name=BAD) for one in evaluator.budget(found.nodes))
    yield CircuitEvaluation(found.circuit, "m", BAD, 8, budget, (), ())
    study = replace(found.study.settings)
    assert dataclasses.is_dataclass(study)
    config = replace(found.study.dictionaries[sites_of("resid_post.1")[0]].config, model_name=BAD)
    dictionary = mirror_dictionary(sites_of("resid_post.1")[0])
    dictionary.config = config
    yield DictionarySet([dictionary])


def test_tables_of_a_notebook_escape_what_they_show(found) -> None:
    seen = 0
    for one in bad_objects(found):
        html = one._repr_html_()
        assert "<script" not in html, type(one)
        assert "&lt;script&gt;" in html, type(one)
        assert html.startswith(("<table", "<div"))
        seen += 1
    assert seen == 7


def test_a_table_has_a_row_for_each() -> None:
    html = html_table(("a", "b"), [(1, 0.123456), ("x", None)], "what it is")
    assert html.count("<tr>") == 3
    cells = ["what it is", "a", "b", "1", "0.1235", "x", "None"]
    assert [text for text in re.sub(r"<[^>]+>", "|", html).split("|") if text] == cells


def test_counts_are_words() -> None:
    assert plural(1, "node") == "1 node"
    assert plural(1200, "node") == "1,200 nodes"
    assert plural(2, "dictionary", "dictionaries") == "2 dictionaries"
