"""Which layers' dictionaries may be believed on a task: each spliced in alone, beside the model and beside nothing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.training_tokens import counted_for
from gossamer.display import html_table, short_repr
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import BySite, Site, SiteMapping, by_site
from gossamer.progress import begin
from gossamer.replacement.evaluate.evaluation import Evaluation
from gossamer.replacement.evaluate.measure import evaluate
from gossamer.replacement.replacement_model import ReplacementModel
from gossamer.tasks.metric import kl_divergence
from gossamer.tasks.prompt_pairs import PromptPairs
from gossamer.tasks.published import TaskLike, task_of
from gossamer.tokens import Tokens

_BATCH = 32


@dataclass(frozen=True)
class Trust:
    """One dictionary alone in the model, on held-out prompts of a task and on text.

    Attributes:
        site: where the dictionary reads.
        kept: the task's metric with the dictionary in, over the model's own.
        kept_without: the same with the site set to zero: the floor.
        kl: KL(model || model with the dictionary) at the answer, mean in nats; kl_without: with the site at zero.
        text: what the dictionary does on text; None if none was given.
    """

    site: Site
    kept: float
    kept_without: float
    kl: float
    kl_without: float
    text: Evaluation | None = None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self.site)
        yield f"keeps {self.kept:.3f} (zero: {self.kept_without:.3f}), KL {self.kl:.3g} (zero: {self.kl_without:.3g})"
        if self.text is not None:
            yield f"L0 {self.text.l0:.3g}, loss recovered {self.text.loss_recovered:.3f}, dead {self.text.dead:.1%}"


class TrustReport(BySite[Trust]):
    """What each dictionary does alone, by site."""

    def _repr_html_(self) -> str:
        head = ("site", "kept", "zero", "KL", "zero", "L0", "loss recovered", "dead")
        rows = [
            (site, f"{one.kept:.3f}", f"{one.kept_without:.3f}", f"{one.kl:.3g}", f"{one.kl_without:.3g}", *_text(one))
            for site, one in self.items()
        ]
        return html_table(head, rows, "each dictionary alone, errors dropped")


def _text(one: Trust) -> tuple[str, str, str]:
    if one.text is None:
        return "", "", ""
    return f"{one.text.l0:.3g}", f"{one.text.loss_recovered:.3f}", f"{one.text.dead:.1%}"


def trust_report(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    task: TaskLike,
    tokens: Tokens | None = None,
    *,
    prompts: int = 128,
) -> TrustReport:
    """Splice each dictionary in alone, its error dropped, and see what is left of a task.

    Memory: prompts x vocabulary a few times.

    Args:
        model: the language model.
        dictionaries: by site; transcoders cannot be spliced.
        task: a task, the name of one, or its file; at most `prompts` of its held-out prompts are used.
        tokens: text for L0, loss recovered and dead latents.
        prompts: see `task`.

    Raises:
        UsageError: a dictionary that cannot be spliced, or a task whose metric is a distance from the model.
    """
    found = by_site(dictionaries)
    chosen = task_of(task, model.tokenizer)
    if chosen.metric.distance:
        raise UsageError("trust: a metric of which a share can be kept expected, found a distance; use logit_diff")
    examples = chosen.test.select(torch.arange(min(prompts, len(chosen.test)))).to(model.device)
    clean = examples.clean
    measured = {} if tokens is None else evaluate(model, found, tokens)
    with torch.no_grad():
        whole = _logits(examples, lambda rows: model.logits(clean.tokens[rows], at=clean.answer_position[rows]))
        counted = counted_for(model, found.values(), clean.tokens).to(model.device)
        base, reference = _mean(examples, whole, whole), torch.log_softmax(whole.float(), dim=-1)
        report = TrustReport()
        advance = begin("trust", len(found))
        for site, dictionary in found.items():
            network = ReplacementModel(model, {site: dictionary})
            spliced = _logits(examples, partial(_spliced, network, examples, counted, None))
            zero = _logits(examples, partial(_spliced, network, examples, counted, _nothing))
            kept, kept_without = (_mean(examples, one, whole) / base for one in (spliced, zero))
            kl, kl_without = (float(kl_divergence(reference, one).mean()) for one in (spliced, zero))
            report[site] = Trust(site, kept, kept_without, kl, kl_without, measured.get(site))
            advance(1, str(site))
    return report


def _nothing(site: Site, x: Tensor) -> Tensor:
    return torch.zeros_like(x)


def _spliced(
    network: ReplacementModel,
    examples: PromptPairs,
    counted: Tensor,
    reconstruct: Callable[[Site, Tensor], Tensor] | None,
    rows: slice,
) -> Float[Tensor, "rows vocab"]:
    clean = examples.clean
    return network.logits(clean.tokens[rows], counted[rows], at=clean.answer_position[rows], reconstruct=reconstruct)


def _logits(examples: PromptPairs, run: Callable[[slice], Tensor]) -> Float[Tensor, "prompt vocab"]:
    return torch.cat(in_batches(len(examples), _BATCH, run))


def _mean(examples: PromptPairs, logits: Tensor, whole: Tensor) -> float:
    return float(examples.measure(logits, slice(None), torch.log_softmax(whole.float(), dim=-1)).mean())
