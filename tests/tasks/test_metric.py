"""Every metric against its formula in float64 on the bundled model's logits, gradients by finite differences."""

import math
from dataclasses import dataclass, replace

import pytest
import torch

from gossamer import tasks
from gossamer.errors import GossamerError, UsageError
from gossamer.model import LanguageModel
from gossamer.tasks import Task
from gossamer.tasks.metric import KL, LOGIT_DIFFERENCE, METRICS, Metric, answer_divergence, kept, metric_of, preferred
from gossamer.tasks.prompt_pairs import PromptPairs


@pytest.fixture(scope="module")
def spool() -> LanguageModel:
    return LanguageModel.load("bundled:spool")


@pytest.fixture(scope="module")
def task(spool) -> Task:
    return tasks.get("ioi").generate(spool.tokenizer, n=40, bos=True)


@pytest.fixture(scope="module")
def logits(spool, task) -> torch.Tensor:
    """Of the model itself at the answer position of the training prompts."""
    clean = task.train.clean
    with torch.no_grad():
        return spool.logits(clean.tokens, at=clean.answer_position)


@pytest.fixture(scope="module")
def reference(logits) -> torch.Tensor:
    """Log-probabilities of another network."""
    noise = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    return (logits + 0.5 * noise).log_softmax(dim=-1)


def several(examples: PromptPairs) -> PromptPairs:
    """The same prompts with 0 to 2 further right answers and 3 to 1 further wrong ones, drawn at random."""
    generator = torch.Generator().manual_seed(1)
    more = torch.stack([torch.randperm(300, generator=generator)[:5] + 100 for _ in range(len(examples))])
    right, incorrect = more[:, :2].clone(), more[:, 2:].clone()
    right[0::3], right[1::3, 1] = -1, -1
    incorrect[0::2, 2], incorrect[0::4, 1] = -1, -1
    return replace(examples, also_correct=right, also_incorrect=incorrect)


def by_hand(name: str, row: list[float], right: list[int], incorrect: list[int], reference: list[float]) -> float:
    """A metric of one prompt, with Python's own floats."""
    if name == "logit_diff":
        return sum(row[i] for i in right) / len(right) - sum(row[i] for i in incorrect) / len(incorrect)
    if name == "logit_margin":
        return max(row[i] for i in right) - max(row[i] for i in incorrect)
    top = max(row)
    total = sum(math.exp(value - top) for value in row)
    p = [math.exp(value - top) / total for value in row]
    if name == "prob_diff":
        return sum(p[i] for i in right) - sum(p[i] for i in incorrect)
    return sum(math.exp(known) * (known - math.log(own)) for known, own in zip(reference, p, strict=True))


def expected(name: str, examples: PromptPairs, logits: torch.Tensor, reference: torch.Tensor) -> list[float]:
    sides = (
        [[i for i in row if i >= 0] for row in ids.tolist()]
        for ids in (examples.answers(), examples.incorrect_answers())
    )
    rows = zip(logits.double().tolist(), *sides, reference.double().tolist(), strict=True)
    return [by_hand(name, *row) for row in rows]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("name", sorted(METRICS))
def test_values_by_hand(name, many, task, logits, reference):
    examples = task.measured_by(name).train
    examples = several(examples) if many else examples
    found = examples.measure(logits, slice(None), reference)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(expected(name, examples, logits, reference), rel=2e-5, abs=2e-6)
    rows = torch.tensor([5, 2, 9])
    torch.testing.assert_close(examples.measure(logits[rows], rows, reference[rows]), found[rows])
    torch.testing.assert_close(examples.measure(logits[3:7], slice(3, 7), reference[3:7]), found[3:7])
    torch.testing.assert_close(examples.select(rows).measure(logits[rows], slice(None), reference[rows]), found[rows])


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("name", sorted(METRICS))
def test_gradients_by_finite_differences(name, many, task, logits, reference):
    examples = task.measured_by(name).train.select([0, 1, 2, 3])
    examples = several(examples) if many else examples
    point, known = logits[:4].double(), reference[:4].double()
    leaf = point.clone().requires_grad_()
    gradient = torch.autograd.grad(examples.measure(leaf, slice(None), known).sum(), leaf)[0]
    generator = torch.Generator().manual_seed(2)
    interesting = torch.cat([examples.answers(), examples.incorrect_answers()], dim=1).clamp(min=0)
    for _ in range(3):
        step = 0.1 * torch.randn(point.shape, generator=generator, dtype=torch.float64)
        step.scatter_(1, interesting, torch.randn(interesting.shape, generator=generator, dtype=torch.float64))
        h = 1e-5
        above, below = (sum(expected(name, examples, point + sign * h * step, known)) for sign in (1, -1))
        assert (gradient * step).sum().item() == pytest.approx((above - below) / (2 * h), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_bfloat16_logits_are_measured_in_float32(name, task, logits, reference):
    examples, rounded = several(task.measured_by(name).train), logits.bfloat16()
    found = examples.measure(rounded, slice(None), reference)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(expected(name, examples, rounded, reference), rel=2e-5, abs=2e-6)


def test_one_answer_each_makes_the_margin_the_difference(task, logits):
    difference = task.train.measure(logits)
    assert task.measured_by("logit_margin").train.measure(logits).equal(difference)
    picked = logits.gather(1, torch.stack([task.train.answer, task.train.incorrect], dim=1)).float()
    assert difference.equal(picked[:, 0] - picked[:, 1])
    answers, incorrect = task.train.answers(), task.train.incorrect_answers()
    assert answers.shape == incorrect.shape == (len(task.train), 1)
    assert preferred(logits, answers, incorrect).equal(difference > 0)


def test_kl_of_the_answers_alone_by_hand(task, logits, reference):
    examples = several(task.train)
    found = answer_divergence(reference, logits, examples.answers(), examples.incorrect_answers())
    ids = torch.cat([examples.answers(), examples.incorrect_answers()], dim=1)
    for row, chosen in enumerate(ids.tolist()):
        picked = [i for i in chosen if i >= 0]
        p, q = (values[row, picked].double().softmax(dim=0) for values in (reference, logits))
        assert found[row].item() == pytest.approx((p * (p / q).log()).sum().item(), rel=1e-4, abs=1e-6)


def test_kl_needs_the_model(task, logits):
    with pytest.raises(UsageError, match="log-probabilities of the full model expected"):
        task.measured_by("kl").train.measure(logits)


@dataclass(frozen=True)
class Entropy:
    """A metric of a user's own."""

    name: str = "entropy"
    label: str = "negative entropy"
    unit: str = "nats"
    distance: bool = False

    def __call__(self, logits, answers, incorrect, reference=None):
        return -torch.special.entr(logits.float().softmax(dim=1)).sum(dim=1)


def test_a_task_takes_names_and_metrics_of_ones_own(task, logits, tmp_path):
    assert metric_of("kl") is KL
    assert isinstance(Entropy(), Metric)
    own = task.measured_by(Entropy())
    assert own.metric == own.train.metric == own.test.metric == Entropy()
    assert own.train.select([0, 1]).to("cpu").metric == Entropy()
    assert own.train.measure(logits).shape == (len(task.train),)
    with pytest.raises(UsageError, match="expected one of logit_diff, prob_diff, logit_margin, kl, found 'accuracy'"):
        task.measured_by("accuracy")
    with pytest.raises(UsageError, match="a metric that can be named expected to save it"):
        own.save(tmp_path / "task.json")
    assert kept(LOGIT_DIFFERENCE) == "logit difference"
    assert kept(KL) == "output (KL to the model)"


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_saved_task_keeps_its_metric(name, task, spool, tmp_path):
    saved = task.measured_by(name).save(tmp_path / "task.json")
    assert Task.load(saved, spool.tokenizer).metric is METRICS[name]
    saved.write_text(saved.read_text().replace(f'"{name}"', '"other"'))
    with pytest.raises(GossamerError, match="checksum"):
        Task.load(saved, spool.tokenizer)
