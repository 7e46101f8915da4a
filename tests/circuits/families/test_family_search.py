"""Each family is searched as its prompts alone would be, and measured on its own held-out prompts and on the others."""

import math
from dataclasses import replace

import pytest
import torch
from circuit_lab import able_task, mirror_dictionary, sites_of

from gossamer.circuits.families.grouping import Grouping
from gossamer.circuits.families.results import Families
from gossamer.circuits.families.search import _family_inputs, circuit_families
from gossamer.circuits.find import CircuitResult, find_circuit
from gossamer.circuits.methods import MaskedPrompts, MethodInputs, searched
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import StudySettings
from gossamer.circuits.task_metrics import BEYOND
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.split import Split

SEARCH = SearchSettings(sizes=(20,), steps=10, batch_size=6, learning_rate=0.3)


@pytest.fixture(scope="module")
def found(model: LanguageModel) -> CircuitResult:
    dictionaries = {site: mirror_dictionary(site) for site in sites_of("resid_post.2")}
    task = able_task(model, n_train=24)
    settings = StudySettings(seed=2, validation=0.0)
    return find_circuit(model, dictionaries, task, size=12, settings=settings, search=SEARCH)


@pytest.fixture(scope="module")
def families(found: CircuitResult) -> Families:
    return circuit_families(found, "roles", reruns=1)


def test_a_family_has_the_circuit_of_its_prompts_alone(found: CircuitResult, families: Families) -> None:
    assert [(one.name, one.training, one.held_out) for one in families.families] == [
        ("prefix A gap B END", 12, 4),
        ("prefix B A END", 12, 4),
    ]
    given = found.study.method_inputs(found.search)
    rows = torch.arange(0, 24, 2)
    alone = MethodInputs.divided(given.training.select(rows), None, found.search)
    path = alone.refiner().improved(searched(alone))
    expected = path.nodes.select(alone.refiner(path).refined(path.of_size(12), 12))
    longer = families.families[0]
    assert set(longer.nodes) == set(expected.keys())
    assert longer.agreement is not None
    assert 0 <= longer.agreement.value <= 1
    both = set(longer.nodes) | set(found.nodes.keys())
    assert longer.shared == pytest.approx(len(set(longer.nodes) & set(found.nodes.keys())) / len(both))
    assert families.overlap.labels == ("all prompts", "prefix A gap B END", "prefix B A END")
    assert families.overlap.jaccard[0][1] == pytest.approx(longer.shared)


def test_it_is_measured_on_its_own_prompts_and_on_the_others(found: CircuitResult, families: Families) -> None:
    longer = families.families[0]
    circuit = found.path.nodes.select(found.path.nodes.find(longer.nodes))
    metric = found.study.evaluator.prompt_metrics(circuit).metric.double()
    whole = found.study.evaluator.prompt_metrics(found.nodes).metric.double()
    own = found.study.evaluator.full.prompt_metrics.metric.double()
    for rows, values, measured in (
        (slice(0, None, 2), metric, longer.own),
        (slice(1, None, 2), metric, longer.others),
        (slice(0, None, 2), whole, longer.whole),
    ):
        expected = float(values[rows].mean() / own[rows].mean())
        assert measured.faithfulness.value == pytest.approx(expected)
    assert longer.whole.size == len(found.nodes)
    spliced = found.study.evaluator.dictionaries.metric.double()
    for rows, kept in ((slice(0, None, 2), longer.dictionaries), (slice(1, None, 2), longer.dictionaries_others)):
        assert kept == pytest.approx(float(spliced[rows].mean() / own[rows].mean()))


def test_what_exceeds_the_dictionaries_on_the_same_prompts_is_marked(families: Families) -> None:
    one = families.families[0]
    below, above = one.own.faithfulness.value + 0.1, one.own.faithfulness.value - 0.1
    assert replace(one, dictionaries=below, whole=one.own).marks[::2] == ("", "")
    assert replace(one, dictionaries=above, whole=one.own).marks[::2] == (BEYOND, BEYOND)
    assert replace(one, dictionaries_others=one.others.faithfulness.value - 0.1).marks[1] == BEYOND
    # Findings of an older version do not say what the dictionaries keep.
    assert replace(one, dictionaries=math.nan, dictionaries_others=math.nan).marks == ("", "", "")


def test_sides_stay_apart_where_both_have_prompts_of_the_family(found: CircuitResult) -> None:
    given = found.study.method_inputs(found.search)
    divided = MethodInputs.divided(
        MaskedPrompts(given.training.splice, given.training.full),
        Split(tuple(range(16)), tuple(range(16, 24)), ()),
        SEARCH,
    )
    names = tuple("even" if row % 2 == 0 else "odd" for row in range(24))
    answers = found.study.examples.answer.tolist()
    part = _family_inputs(divided, Grouping(names, ()), "odd")
    assert part.validation is not None
    assert part.fitted.splice.examples.answer.tolist() == answers[1:16:2]
    assert part.validation.splice.examples.answer.tolist() == answers[17:24:2]
    first = tuple("first" if row < 16 else "last" for row in range(24))
    part = _family_inputs(divided, Grouping(first, ()), "first")
    assert part.validation is None
    assert part.training.splice.examples.answer.tolist() == answers[:16]


def test_families_that_are_too_small_are_refused(found: CircuitResult) -> None:
    prompts = tuple(
        replace(one, case="rare" if row < 4 else "usual") for row, one in enumerate(found.study.examples.prompts)
    )
    task = replace(found.study.task, train=replace(found.study.task.train, prompts=prompts))
    few = replace(found, study=replace(found.study, task=task))
    with pytest.raises(
        UsageError, match="at least two of 8 training prompts and 2 held-out ones expected, found 'rare'"
    ):
        circuit_families(few, "case")
    other = replace(found, path=replace(found.path, method="random"))
    with pytest.raises(UsageError, match="a circuit of the mask search expected, found one of random"):
        circuit_families(other, "roles")
