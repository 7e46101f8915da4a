"""The main job end to end on a real model: dictionaries trained here in seconds, a real task, a real circuit."""

import pytest
import torch

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.find import CircuitResult, find_circuit
from gossamer.circuits.search import SearchSettings
from gossamer.circuits.study import StudySettings
from gossamer.dictionary import DictionarySet
from gossamer.errors import GossamerError
from gossamer.model import LanguageModel, Site
from gossamer.tasks import load_published
from gossamer.training import read_texts, train_dictionaries
from gossamer.training.config import CorpusConfig, DictionaryTrainerConfig, FinetuneConfig, FitConfig, TrainingConfig
from gossamer.training.objectives import BatchTopK

pytestmark = [pytest.mark.real, pytest.mark.slow]

SITES = [Site("resid_post", 2), Site("resid_post", 4)]
CONFIG = TrainingConfig(
    corpus=CorpusConfig(context=32, bos=1.0),
    trainer=DictionaryTrainerConfig(n_latents=512, objective=BatchTopK(k=32)),
    fit=FitConfig(tokens=120_000, buffer=60_000, sensitivity_rows=64),
    finetune=FinetuneConfig(tokens=0),
)


@pytest.fixture(scope="module")
def model(real_folder):
    return LanguageModel.load(real_folder / "models" / "tinytalk-3m-gpt2", device="cpu")


@pytest.fixture(scope="module")
def dictionaries(model, real_folder, tmp_path_factory) -> DictionarySet:
    texts = read_texts(real_folder / "text" / "tinystories_train.jsonl")[:1500]
    return train_dictionaries(model, texts, SITES, CONFIG, tmp_path_factory.mktemp("dictionaries"))


@pytest.fixture(scope="module")
def found(model, dictionaries, real_folder) -> CircuitResult:
    path = real_folder / "tasks" / "feature_circuits" / "simple_train.json"
    task = load_published(path, model.tokenizer, bos=True, test_fraction=0.35)
    return find_circuit(model, dictionaries, task, size=40, search=SearchSettings(steps=100))


def test_agreement_has_a_small_circuit_that_random_nodes_do_not_match(found):
    evaluator, nodes = found.study.evaluator, found.path.nodes
    whole = evaluator.faithfulness(evaluator.dictionaries)
    kept = evaluator.kept(found.nodes)
    assert len(found.nodes) <= 40 < len(nodes)
    assert whole > 0.6
    assert kept > 0.5 * whole
    assert evaluator.task_metrics("", evaluator.prompt_metrics(found.nodes)).accuracy > 0.85
    generator = torch.Generator().manual_seed(0)
    by_chance = [evaluator.kept(nodes.select(torch.randperm(len(nodes), generator=generator)[:40])) for _ in range(5)]
    assert max(by_chance) < 0.5 * kept
    assert evaluator.faithfulness(evaluator.without(found.nodes)) < 0.7 * whole


def test_the_circuit_on_disk_is_the_circuit_found(found, tmp_path):
    loaded = Circuit.load(found.circuit.save(tmp_path / "circuit.json"))
    assert loaded.nodes == found.circuit.nodes
    assert loaded.provenance["task"]["prompts"] > 100


def test_a_task_that_the_model_cannot_do_is_refused_before_any_search(model, dictionaries, real_folder, monkeypatch):
    task = load_published(real_folder / "tasks" / "feature_circuits" / "nounpp_test.json", model.tokenizer, bos=True)
    monkeypatch.setattr("gossamer.circuits.study.candidates", lambda *_: pytest.fail("candidates were looked for"))
    with pytest.raises(GossamerError, match=r"cannot do nounpp_test: .* on 5\d% of 352 prompts"):
        find_circuit(model, dictionaries, task, settings=StudySettings(prompts=400))
