"""What a task looks like, in words and token by token."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from gossamer.display import cut, html_table, plural, short_repr
from gossamer.tasks.examples import Encoded, Examples
from gossamer.tasks.spelling import token_text


@dataclass(frozen=True)
class Preview:
    """One prompt as tokens with roles: (token text, role) pairs, the role "" for BOS, and the answers' texts."""

    clean: tuple[tuple[str, str], ...]
    counterfactual: tuple[tuple[str, str], ...]
    answer: str
    wrong: str
    template: str
    case: str

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{cut(repr(''.join(token for token, _ in self.clean)), 80)} -> {cut(repr(self.answer), 20)}"
        yield f"{plural(len(self.clean), 'token')}, not {cut(repr(self.wrong), 20)}"

    def _repr_html_(self) -> str:
        rows = [(*one, other) for one, (other, _) in zip_longest(self.clean, self.counterfactual, fillvalue=("", ""))]
        caption = f"{self.answer!r}, in the counterfactual {self.wrong!r}"
        return html_table(("token", "role", "counterfactual"), rows, caption)


def preview(examples: Examples, role_names: Sequence[str], tokenizer: Any, row: int) -> Preview:
    """Row `row` of `examples` as the model will see it."""
    prompt = examples.prompts[row]

    def pairs(encoded: Encoded) -> tuple[tuple[str, str], ...]:
        kept = encoded.tokens.mask[row]
        ids, roles = encoded.tokens.ids[row][kept].tolist(), encoded.roles[row][kept].tolist()
        return tuple(
            (token_text(tokenizer, token), role_names[role] if role >= 0 else "")
            for token, role in zip(ids, roles, strict=True)
        )

    return Preview(
        pairs(examples.clean), pairs(examples.counterfactual), prompt.answer, prompt.wrong, prompt.template, prompt.case
    )


def describe(name: str, train: Examples, test: Examples, role_names: Sequence[str], bos: bool) -> str:
    """One paragraph: how many prompts, an example, lengths, roles, templates and cases."""
    both = (*train.prompts, *test.prompts)
    lengths = [length for side in (train, test) for length in side.clean.tokens.lengths.tolist()]
    shortest, longest = min(lengths), max(lengths)
    templates = Counter(prompt.template for prompt in both)
    cases = Counter(prompt.case for prompt in both if prompt.case)
    first = train.prompts[0]
    size = f"{shortest} tokens" if shortest == longest else f"{shortest} to {longest} tokens"
    return (
        f"{name}: {len(train)} training and {len(test)} test prompts such as {first.clean_text!r} -> {first.answer!r} "
        f"(counterfactual {first.counterfactual_text!r} -> {first.wrong!r}); {size}, {'with' if bos else 'no'} BOS; "
        f"{'aligned' if train.aligned and test.aligned else 'not aligned'} with their counterfactuals; "
        f"roles {', '.join(role_names)}; measured by {train.metric.label}; {_counted(templates, 'template')}"
        f"{'; ' + _counted(cases, 'case') if cases else ''}."
    )


def _counted(found: Counter[str], what: str) -> str:
    shown = ", ".join(f"{key} ({count})" for key, count in found.most_common(6))
    more = f" and {len(found) - 6} more" if len(found) > 6 else ""
    return f"{len(found)} {what}{'s' if len(found) != 1 else ''}: {shown}{more}"
