"""What the parts of the IOI study share: prompts on which choices are made and others that are reported, and runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.attention.frozen import FrozenPass
from gossamer.attention.ioi.prompts import (
    EncodedPrompts,
    IOIPrompt,
    draw_prompts,
    encode_prompts,
    single_token_names,
)
from gossamer.attention.ioi.results import Estimate, TemplateAbility
from gossamer.attention.ioi.runs import CleanRun
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import listed, short_repr
from gossamer.errors import GossamerError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.bootstrap import sampled
from gossamer.tasks.prompt_tokenizer import PromptTokenizer

MINIMUM_ACCURACY = 0.75
CHOOSE, REPORT = "choose", "report"
# Prompts of a template on which is measured whether the model can do it, and templates that are used.
_PROBES, _TEMPLATES = 24, 8


def able_templates(
    model: LanguageModel, speller: PromptTokenizer, templates: Sequence[str], seed: int
) -> tuple[TemplateAbility, ...]:
    """What the model does on each template, and which side the templates that it can do are on, in turn.

    Raises:
        GossamerError: it can do fewer than two; the message has what was found and what is needed.
    """
    names = single_token_names(speller)
    found = {}
    for template in templates:
        probes = draw_prompts(names, [template], _PROBES, seed + 1)
        difference = CleanRun.of(model, encode_prompts(probes, speller)).difference
        found[template] = float((difference > 0).float().mean()), float(difference.mean())
    able = [name for name, (accuracy, mean) in found.items() if accuracy >= MINIMUM_ACCURACY and mean > 0]
    if len(able) < 2:
        best = max(found, key=lambda name: found[name])
        raise GossamerError(
            f"{model.title} cannot do indirect object identification: at least two templates with an accuracy of "
            f"{MINIMUM_ACCURACY:.0%} and a positive logit difference expected, found {len(able)} of {len(found)}; the "
            f"best is {best} with {found[best][0]:.0%} of {_PROBES} prompts and {found[best][1]:.2f}; chance is 50%"
        )
    used = sorted(sorted(able, key=lambda name: -found[name][0])[:_TEMPLATES], key=list(found).index)
    sides = {name: (CHOOSE, REPORT)[place % 2] for place, name in enumerate(used)}
    return tuple(TemplateAbility(name, sides.get(name, ""), _PROBES, *values) for name, values in found.items())


@dataclass(frozen=True, eq=False)
class Setup:
    """A model, its dictionaries on z, and prompts of both sides.

    Attributes:
        model: the language model.
        dictionaries: on z; none for what needs none.
        drawn: all prompts.
        sides: of each template.
        speller: the tokenizer, with or without BOS.
        seed: of prompts and intervals.
    """

    model: LanguageModel
    dictionaries: Mapping[Site, Dictionary]
    drawn: tuple[IOIPrompt, ...]
    sides: Mapping[str, str]
    speller: PromptTokenizer
    seed: int

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.model.title
        yield f"dictionaries at {listed(self.dictionaries)}"
        yield f"{len(self.drawn)} prompts"

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        dictionaries: Mapping[Site, Dictionary],
        ability: Sequence[TemplateAbility],
        speller: PromptTokenizer,
        prompts: int,
        seed: int,
    ) -> "Setup":
        """Draw `prompts` prompts from the templates that have a side."""
        sides = {one.template: one.side for one in ability if one.side}
        drawn = draw_prompts(single_token_names(speller), list(sides), prompts, seed)
        return cls(model, dictionaries, tuple(drawn), sides, speller, seed)

    @cached_property
    def prompts(self) -> EncodedPrompts:
        """All prompts."""
        return encode_prompts(self.drawn, self.speller).to(self.model.device)

    @cached_property
    def clean(self) -> CleanRun:
        """The runs on all prompts."""
        return CleanRun.of(self.model, self.prompts)

    @cached_property
    def swapped(self) -> CleanRun:
        """The runs on their swaps, with the answers of the prompts themselves."""
        encoded = encode_prompts([one.swapped for one in self.drawn], self.speller)
        return CleanRun.of(self.model, encoded)

    def side(self, name: str) -> Int[Tensor, "rows"]:
        """Numbers of the prompts of one side."""
        chosen = torch.tensor([self.sides[one.template] == name for one in self.drawn])
        return chosen.nonzero().squeeze(1).to(self.model.device)

    @cached_property
    def whole(self) -> Float[Tensor, "prompt"]:
        """How far a prompt's logit difference is from that of its swap, by the prompt's own answers."""
        return self.clean.difference - self.swapped.difference

    @cached_property
    def frozen(self) -> FrozenPass:
        """A pass over all prompts with the dictionaries."""
        return FrozenPass.of(self.model, self.dictionaries.values(), self.prompts.tokens)

    def passes(self, side: str) -> list[tuple[FrozenPass, EncodedPrompts]]:
        """Passes over the prompts of one side, those of each template (which are of one length) together."""
        found = []
        for template in [name for name, one in self.sides.items() if one == side]:
            prompts = self.prompts[self.prompts.rows(template=template)]
            cut = prompts.tokens.cut(int(prompts.tokens.lengths.max()))
            found.append((FrozenPass.of(self.model, self.dictionaries.values(), cut), prompts))
        return found

    def rows_in_passes(self, side: str) -> Int[Tensor, "rows"]:
        """Numbers of the prompts of :meth:`passes`, in its order."""
        found = [self.prompts.rows(template=template) for template, one in self.sides.items() if one == side]
        return torch.cat(found)

    def samples(self, rows: Int[Tensor, "rows"]) -> Float[Tensor, "draw rows"]:
        """Bootstrap samples of some prompts: how often each is drawn."""
        names = [self.drawn[row].template for row in rows.tolist()]
        template = torch.tensor([sorted(set(names)).index(name) for name in names])
        return sampled(torch.arange(len(names)), template, self.seed)

    def estimate(
        self, values: Float[Tensor, "rows"], per: Float[Tensor, "rows"], rows: Int[Tensor, "rows"]
    ) -> Estimate:
        """Mean of `values` over mean of `per`, both of the prompts `rows`, with its bootstrap interval."""
        numerator, denominator = values.double().cpu(), per.double().cpu()
        weights = self.samples(rows)
        draws = (weights @ numerator) / (weights @ denominator)
        return interval(float(numerator.mean() / denominator.mean()), draws)


def interval(value: float, draws: Float[Tensor, "draw"]) -> Estimate:
    """A number with the 95 % interval of its bootstrap draws."""
    low, high = torch.quantile(draws, torch.tensor([0.025, 0.975], dtype=draws.dtype)).tolist()
    return Estimate(value, low, high)
