"""A task: prompts with answers, counterfactuals and roles, encoded for one tokenizer and split in train and test."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gossamer.display import html_table, listed, plural, short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.tasks.build import ROLE_KINDS, build_rows, by_position, draft, warn_left_out, warn_shortened, with_one_bos
from gossamer.tasks.encoding import AblationGroups, EncodedRow, encode, role_names, usable
from gossamer.tasks.metric import LOGIT_DIFFERENCE, METRICS, Metric, metric_of
from gossamer.tasks.preview import Preview, describe, preview
from gossamer.tasks.prompt import Piece, Prompt
from gossamer.tasks.prompt_pairs import PromptPairs, TokenizedPrompts, is_aligned
from gossamer.tasks.prompt_tokenizer import PromptTokenizer
from gossamer.tasks.reading import read_prompts
from gossamer.tasks.split import Split, SplitBy, split, word_split
from gossamer.tasks.storage import load_body, plain, prompt_from_json, prompt_to_json, save_body, tokens_digest
from gossamer.tasks.writing import write_prompts

# Prompts that a notebook shows of a task.
PROMPTS_SHOWN = 8

__all__ = ["Piece", "Prompt", "PromptPairs", "Task", "TokenizedPrompts", "is_aligned"]


@dataclass(frozen=True)
class Task:
    """Prompts of one behaviour, ready for a model with the tokenizer that they were encoded with.

    Attributes:
        name: what it is called in results.
        role_names: the roles, in reading order; `TokenizedPrompts.roles` are indices into it.
        ablation_group_names: the mean-ablation groups as ``template/role+offset``.
        train, test: examples that share no text; every ablation group occurs in the training counterfactuals.
        bos: whether the prompts begin with a BOS token.
        metric: what is measured at the last token: one of :data:`gossamer.tasks.metric.METRICS`, or another object of
            their form.
        roles: "given" by the prompts' pieces, or "position" for one role at each position.
        provenance: where the prompts come from and what was left out; JSON values only.
    """

    name: str
    role_names: tuple[str, ...]
    ablation_group_names: tuple[str, ...]
    train: PromptPairs
    test: PromptPairs
    bos: bool
    metric: Metric
    provenance: Mapping[str, Any]
    roles: str = "given"

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.name
        yield f"{plural(len(self.train), 'training prompt')}, {len(self.test)} to test"
        yield f"roles {listed(self.role_names)}"
        yield self.metric.label

    def _repr_html_(self) -> str:
        rows = [
            (one.clean_text, one.answer, one.counterfactual_text, one.incorrect, one.template)
            for one in self.train.prompts[:PROMPTS_SHOWN]
        ]
        return html_table(("prompt", "answer", "counterfactual", "wrong", "template"), rows, repr(self))

    def __post_init__(self) -> None:
        # One metric for the task: its prompts carry it to everyone who measures them.
        for side in ("train", "test"):
            object.__setattr__(self, side, replace(getattr(self, side), metric=self.metric))

    def measured_by(self, metric: str | Metric) -> "Task":
        """The same task with another metric, given by name or as an object of its own.

        Raises:
            UsageError: no such metric.
        """
        return replace(self, metric=metric_of(metric))

    @classmethod
    def from_prompts(
        cls,
        prompts: Sequence[Prompt],
        tokenizer: Any,
        *,
        name: str,
        bos: bool | None = None,
        roles: str = "given",
        test_fraction: float = 0.25,
        split_by: SplitBy | None = "text",
        seed: int = 0,
        drop_multi_token: bool = False,
        length: int | None = None,
        metric: str | Metric = LOGIT_DIFFERENCE,
        provenance: Mapping[str, Any] | None = None,
    ) -> "Task":
        """Encode and split `prompts`.

        Prompts are left out, with a warning, whose answers this tokenizer cannot tell apart by their first token, or
        whose named words share a token with other text.

        Args:
            prompts: what to encode; repeated ones are used once.
            tokenizer: a Hugging Face fast tokenizer.
            name: of the task.
            bos: begin every prompt with the BOS token; None does what the tokenizer does by default.
            roles: take them from the prompts' pieces, or name every position (needs equal lengths).
            test_fraction: share of the prompts wanted in the test.
            split_by: "text": training and test share no text; "word": no word either at the roles with the most words
                (:func:`gossamer.tasks.split.word_split`); None: "word" where the prompts allow it. Recorded in
                `provenance`.
            seed: of the split.
            drop_multi_token: leave out prompts with a one-word role of several tokens too; without it such words are
                spread over several tokens of their role.
            length: keep only prompts of so many tokens, BOS included, on both sides.
            metric: what is measured, by name or as an object.
            provenance: what to record besides.

        Raises:
            UsageError: an answer that is right and wrong at once, BOS written out in some prompts only, unequal lengths
                with roles="position", a test fraction outside (0, 1), no such metric, words that cannot be divided, or
                too few prompts left for training and test.
        """
        metric = metric_of(metric)
        _check(roles, test_fraction)
        prompt_tokenizer, prompts = with_one_bos(tokenizer, bos, prompts)
        rows, left_out, faults = build_rows(
            prompts, prompt_tokenizer, roles=roles, drop_multi_token=drop_multi_token, length=length
        )
        sides, split_by = _sides(name, [row.prompt for row in rows], split_by, test_fraction, seed)
        train, test, missing = usable([rows[row] for row in sides.train], [rows[row] for row in sides.test])
        left_out["joined_both_sides_of_the_split"] = len(sides.cut)
        left_out |= {f"without_a_training_mean_for_{role}": count for role, count in missing.items()}
        if not train or not test:
            raise UsageError(
                f"task {name}: prompts for training and for testing expected, found {len(train)} and {len(test)} that "
                f"share no text, of {len(rows)}; give more prompts of each template, or counterfactuals that differ"
            )
        warn_left_out(name, left_out, len(prompts), faults)
        recorded = {**(provenance or {}), "prompts": len(prompts), "left_out": left_out, "split_seed": seed}
        recorded |= {"test_fraction": test_fraction, "split_by": split_by}
        if shortened := warn_shortened(name, [*train, *test]):
            recorded["answers_by_first_token"] = shortened
        return cls._encoded(name, train, test, prompt_tokenizer, roles, metric, recorded)

    @property
    def templates(self) -> tuple[str, ...]:
        """Templates of the training prompts, the most frequent first."""
        return tuple(name for name, _ in Counter(one.template for one in self.train.prompts).most_common())

    def of_templates(self, names: Collection[str], tokenizer: Any) -> "Task":
        """The prompts of some templates alone, each on the side that it has here.

        Args:
            names: of :attr:`templates`.
            tokenizer: the one that the task was made with.

        Raises:
            UsageError: no such template, or none of its prompts on a side.
        """
        if unknown := [name for name in names if name not in self.templates]:
            raise UsageError(
                f"task {self.name}: no template {unknown[0]!r}; its templates are {', '.join(self.templates)}"
            )
        chosen = [[one for one in side.prompts if one.template in names] for side in (self.train, self.test)]
        if not all(chosen):
            raise UsageError(
                f"task {self.name}: prompts to train and to test expected of {', '.join(names)}, found "
                f"{len(chosen[0])} and {len(chosen[1])}; give more prompts (--prompts)"
            )
        provenance = {**self.provenance, "templates": sorted(names)}
        found = self._again(
            self.name, chosen, PromptTokenizer(tokenizer, self.bos), self.roles, self.metric, provenance
        )
        if found is None:
            raise UsageError(f"task {self.name}: the tokenizer that it was made with expected, found another")
        return found

    @classmethod
    def _again(
        cls,
        name: str,
        sides: Sequence[Sequence[Prompt]],
        prompt_tokenizer: PromptTokenizer,
        roles: str,
        metric: Metric,
        provenance: Mapping[str, Any],
    ) -> "Task | None":
        """Prompts that were encoded before, on their sides; None if this tokenizer cannot encode all of them."""
        encoded = []
        for prompts in sides:
            found = draft(dict(enumerate(prompts)), prompt_tokenizer, ())
            rows = [found.rows[number] for number in sorted(found.rows)]
            encoded.append(by_position(rows) if roles == "position" else rows)
        if any(len(rows) != len(prompts) for rows, prompts in zip(encoded, sides, strict=True)):
            return None
        return cls._encoded(name, encoded[0], encoded[1], prompt_tokenizer, roles, metric, provenance)

    @classmethod
    def _encoded(
        cls,
        name: str,
        train: Sequence[EncodedRow],
        test: Sequence[EncodedRow],
        prompt_tokenizer: PromptTokenizer,
        roles: str,
        metric: Metric,
        provenance: Mapping[str, Any],
    ) -> "Task":
        ablation_groups, names = AblationGroups(train), role_names([*train, *test])
        train_side, test_side = (
            encode(rows, names, ablation_groups, prompt_tokenizer.padding, metric) for rows in (train, test)
        )
        return cls(
            name,
            names,
            ablation_groups.names,
            train_side,
            test_side,
            prompt_tokenizer.bos,
            metric,
            plain(provenance),
            roles,
        )

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        tokenizer: Any,
        *,
        roles: str | None = None,
        name: str | None = None,
        metric: str | Metric | None = None,
        **options: Any,
    ) -> "Task":
        """Read prompts from a JSON, JSON-lines or CSV file and encode them.

        Args:
            path: rows in one of the forms of :mod:`gossamer.tasks.reading` and :mod:`gossamer.tasks.formats`.
            tokenizer: a Hugging Face fast tokenizer.
            roles: "given", "position", "answers", "diff" or "pattern"; None takes "given" if the rows have roles, else
                "position".
            name: of the task; None takes the file's.
            metric: what is measured; None takes what suits the prompts (see `ReadPrompts.metric` in `tasks.reading`).
            **options: those of `read_prompts` (`names`, `pattern`, `template`, `template_pattern`) and of
                `from_prompts` (`bos`, `test_fraction`, `split_by`, `seed`, `drop_multi_token`, `length`).

        Raises:
            UsageError: as those two.
            GossamerError: the file is damaged.
        """
        reading = {
            key: options.pop(key) for key in ("names", "pattern", "template", "template_pattern") if key in options
        }
        found = read_prompts(path, tokenizer, roles=roles, **reading)
        name = name or Path(path).stem
        kind = "position" if found.roles == "position" else "given"
        options |= {"metric": found.metric if metric is None else metric, "provenance": found.provenance}
        return cls.from_prompts(found.prompts, tokenizer, name=name, roles=kind, **options)

    def describe(self) -> str:
        """One paragraph: how many prompts, an example, lengths, roles, templates and cases."""
        return describe(self.name, self.train, self.test, self.role_names, self.bos)

    def preview(self, tokenizer: Any, row: int = 0) -> Preview:
        """Training row `row`, token by token with its roles."""
        if not 0 <= row < len(self.train):
            raise UsageError(f"row: 0 to {len(self.train) - 1} expected, found {row}")
        return preview(self.train, self.role_names, tokenizer, row)

    def write_prompts(self, path: str | Path, form: str = "gossamer") -> Path:
        """Write the prompts as rows that `from_file` reads: see :func:`gossamer.tasks.writing.write_prompts`."""
        return write_prompts(path, {"train": self.train, "test": self.test}, form)

    def save(self, path: str | Path) -> Path:
        """Write the task as JSON, atomically: prompts, split, provenance, a digest of the tokens. Returns the path.

        Raises:
            UsageError: the metric is none of gossamer's own, so that no name would bring it back.
        """
        return save_body(path, self.body())

    def body(self) -> dict[str, Any]:
        """The task as JSON values: what a file of it holds.

        Raises:
            UsageError: the metric is none of gossamer's own, so that no name would bring it back.
        """
        if METRICS.get(self.metric.name) is not self.metric:
            raise UsageError(
                f"task {self.name}: a metric that can be named expected to save it ({', '.join(METRICS)}), found "
                f"{self.metric!r}; save it measured_by one of these"
            )
        return {
            "name": self.name,
            "roles": self.roles,
            "bos": self.bos,
            "metric": self.metric.name,
            "provenance": dict(self.provenance),
            "tokens_sha256": tokens_digest(self.train, self.test),
            "train": [prompt_to_json(prompt) for prompt in self.train.prompts],
            "test": [prompt_to_json(prompt) for prompt in self.test.prompts],
        }

    @classmethod
    def load(cls, path: str | Path, tokenizer: Any) -> "Task":
        """Read a saved task and encode it again.

        Raises:
            GossamerError: the file is damaged, or this tokenizer encodes the prompts differently from the one that the
                task was made with.
        """
        return load_body(path, lambda body: cls.from_body(body, tokenizer))

    @classmethod
    def from_body(
        cls, body: Mapping[str, Any], tokenizer: Any, arrange: Callable[["Task"], "Task"] = lambda task: task
    ) -> "Task":
        """The inverse of :meth:`body`; `arrange` is what was done to the encoded task before that, such as grouping.

        Raises:
            GossamerError: this tokenizer encodes the prompts differently from the one that the task was made with.
        """
        sides = [[prompt_from_json(row) for row in body[side]] for side in ("train", "test")]
        tokenizing, metric = PromptTokenizer(tokenizer, body["bos"]), metric_of(body["metric"])
        found = cls._again(body["name"], sides, tokenizing, body["roles"], metric, body["provenance"])
        task = None if found is None else arrange(found)
        if task is None or tokens_digest(task.train, task.test) != body["tokens_sha256"]:
            raise GossamerError(
                "this tokenizer encodes the prompts differently from the one that the task was made with; load it with "
                "that model's tokenizer, or make the task anew for this one"
            )
        return task


def _check(roles: str, test_fraction: float) -> None:
    if not 0 < test_fraction < 1:
        raise UsageError(f"test_fraction: a number between 0 and 1 expected, found {test_fraction}")
    if roles not in ROLE_KINDS:
        raise UsageError(f"roles: expected {' or '.join(ROLE_KINDS)}, found {roles!r}")


def _sides(
    name: str, prompts: Sequence[Prompt], split_by: SplitBy | None, test_fraction: float, seed: int
) -> tuple[Split, SplitBy]:
    """The two sides, and what they do not share."""
    by_word = None if split_by == "text" else word_split(prompts, test_fraction, seed)
    if by_word is not None:
        return by_word, "word"
    if split_by == "word":
        raise UsageError(
            f"task {name}: words that divide its {len(prompts)} prompts in training and test expected (a role's names "
            "or nouns), found none that leave enough on both sides; give more prompts or words, or split by text"
        )
    return split(prompts, test_fraction, seed), "text"
