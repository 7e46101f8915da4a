"""Tasks by name, generated for any tokenizer from the package's own words."""

import inspect
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.tasks import code_output, ioi, lexicon, subject_verb
from gossamer.tasks.build import Fault, TaskWarning, draft, refusal, shortened_answers
from gossamer.tasks.prompt import Piece, Prompt
from gossamer.tasks.prompt_tokenizer import PromptTokenizer
from gossamer.tasks.split import SplitBy
from gossamer.tasks.task import Task

Entry = str | tuple[str, ...]


@dataclass(frozen=True)
class Generator:
    """A task that can be generated.

    Attributes:
        name: what it is asked for by.
        about: one line.
        sample: ``sample(rng, n, **words, **options)`` gives prompts.
        words: the word lists that must be single tokens, by their argument of `sample`.
        spare: more words for some of the lists: they take the places of words that are left out.
        roles: the roles that each of these lists fills.
        answers: the list that the answers are taken from, and what stands before an answer.
        fixed_answers: answers that no list can replace; of several tokens, their first may stand for them.
        n: how many prompts unless asked otherwise.
    """

    name: str
    about: str
    sample: Callable[..., list[Prompt]]
    words: Mapping[str, Sequence[Entry]]
    roles: Mapping[str, tuple[str, ...]]
    answers: tuple[str, str]
    fixed_answers: tuple[str, ...] = ()
    n: int = 512
    spare: Mapping[str, Sequence[Entry]] = field(default_factory=dict)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.name)
        yield self.about

    @property
    def options(self) -> tuple[str, ...]:
        """What `generate` passes on to `sample`: word lists and settings."""
        bound = self.sample.keywords if isinstance(self.sample, partial) else {}
        parameters = inspect.signature(self.sample).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in bound)

    def generate(
        self,
        tokenizer: Any,
        *,
        n: int | None = None,
        seed: int = 0,
        bos: bool | None = None,
        test_fraction: float = 0.25,
        split_by: SplitBy | None = "text",
        drop_multi_token: bool = True,
        **options: Any,
    ) -> Task:
        """A task of `n` prompts for `tokenizer`.

        Words that are not one token in their place are left out of the lists, named in a warning and in the provenance;
        in the package's own lists other words take their places where there are some that fit.

        Args:
            tokenizer: a Hugging Face fast tokenizer.
            n: how many prompts; None takes the generator's own number.
            seed: of the prompts and of the split.
            bos: begin with a BOS token; None does what the tokenizer does by default.
            test_fraction: share of the prompts wanted in the test.
            split_by: what training and test do not share (see :meth:`Task.from_prompts`).
            drop_multi_token: False refuses words that are not one token instead.
            **options: arguments of `sample`, such as templates or word lists.

        Raises:
            UsageError: unknown options, too few words for `n` prompts, or (with drop_multi_token=False) words that are
                not one token in their place.
        """
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            raise UsageError(
                f"task {self.name}: options {', '.join(self.options)} expected, found {', '.join(unknown)}; "
                "leave out what is not an option"
            )
        words = {key: tuple(options.get(key) or default) for key, default in self.words.items()}
        spare = {key: tuple(entries) for key, entries in self.spare.items() if not options.get(key)}
        sample = partial(self.sample, **{key: value for key, value in options.items() if key not in words})
        kept, dropped = self._fitting(PromptTokenizer(tokenizer, bos), sample, words, spare, drop_multi_token)
        prompts = sample(random.Random(seed), self.n if n is None else n, **kept)
        provenance = {"generator": self.name, "seed": seed, "options": options, "dropped_words": dropped}
        return Task.from_prompts(
            prompts,
            tokenizer,
            name=self.name,
            bos=bos,
            test_fraction=test_fraction,
            split_by=split_by,
            seed=seed,
            provenance=provenance,
        )

    def _fitting(
        self,
        prompt_tokenizer: PromptTokenizer,
        sample: Callable[..., list[Prompt]],
        words: Mapping[str, tuple[Entry, ...]],
        spare: Mapping[str, tuple[Entry, ...]],
        drop: bool,
    ) -> tuple[dict[str, tuple[Entry, ...]], list[str]]:
        """The word lists with spare words in place of those that are not one token there, and the words left out."""
        probes = sample(random.Random(0), 16, **words)
        faults = self._faults(prompt_tokenizer, probes, words)
        bad = {fault.word.strip() for fault in faults}
        fixed = bad & set(self.fixed_answers)
        if fixed:
            raise UsageError(
                f"task {self.name}: the answer {fixed.pop()!r} cannot be told from a digit by its first token with "
                "this tokenizer; use another model (in Python, counterfactual='other' has no such answer)"
            )
        if not bad:
            return dict(words), []
        if not drop:
            raise UsageError(f"task {self.name}: {refusal(faults)}")
        unfit = bad | {fault.word.strip() for fault in self._faults(prompt_tokenizer, probes, spare)}
        kept: dict[str, tuple[Entry, ...]] = {}
        added: list[str] = []
        for key, entries in words.items():
            more = iter([entry for entry in spare.get(key, ()) if not unfit & _forms(entry)])
            chosen = [next(more, None) if bad & _forms(entry) else entry for entry in entries]
            kept[key] = tuple(entry for entry in chosen if entry is not None)
            added += [word for entry in kept[key] if entry not in entries for word in sorted(_forms(entry))]
        text = f"task {self.name}: words left out because they are not one token: {', '.join(sorted(bad))}"
        instead = f"; in their place: {', '.join(added)}" if added else ""
        warnings.warn(text + instead, TaskWarning, stacklevel=3)
        return kept, sorted(bad)

    def _faults(
        self, prompt_tokenizer: PromptTokenizer, probes: Sequence[Prompt], words: Mapping[str, tuple[Entry, ...]]
    ) -> list[Fault]:
        """Faults of every word of the lists, put into all roles that it can have, in one prompt of each template."""
        prompts = list(probes)
        checked = {role for roles in self.roles.values() for role in roles}
        answers, before = self.answers
        for probe in {prompt.template: prompt for prompt in probes}.values():
            for key, entries in words.items():
                for word in sorted(set().union(*map(_forms, entries))):
                    changed = _with_word(probe, self.roles.get(key, ()), word)
                    prompts.append(replace(changed, answer=before + word) if key == answers else changed)
        found = draft(dict(enumerate(prompts)), prompt_tokenizer, checked)
        shortened = [fault for fault in shortened_answers(found) if fault.word.strip() not in self.fixed_answers]
        return [*found.faults, *shortened]


def _forms(entry: Entry) -> set[str]:
    return {entry} if isinstance(entry, str) else set(entry)


def _with_word(prompt: Prompt, roles: Sequence[str], word: str) -> Prompt:
    pieces = tuple(Piece(word, piece.role) if piece.role in roles else piece for piece in prompt.clean)
    return replace(prompt, clean=pieces, counterfactual=pieces)


def _agreement(structure: str, noun: str, about: str, n: int = 512) -> Generator:
    key, nouns, spare = (
        ("nouns", lexicon.CLAUSE_NOUNS, lexicon.SPARE_CLAUSE_NOUNS)
        if noun == "noun"
        else ("subjects", lexicon.SUBJECTS, lexicon.SPARE_SUBJECTS)
    )
    return Generator(
        name=f"sva-{structure.replace('_', '-')}",
        about=about,
        sample=partial(subject_verb.sample, structure=structure),
        words={key: nouns, "answers": lexicon.ANSWER_VERBS},
        roles={key: (noun,)},
        answers=("answers", " "),
        n=n,
        spare={key: spare},
    )


_ALL = (
    Generator(
        name="ioi",
        about="indirect object identification, in both orders: which of two names was given to",
        sample=ioi.sample,
        words={"names": lexicon.NAMES},
        roles={"names": ("IO", "S1", "S2")},
        answers=("names", " "),
        spare={"names": lexicon.SPARE_NAMES},
    ),
    _agreement("simple", "subject", 'subject-verb agreement: "The boys" -> " are"', n=96),
    _agreement("rc", "subject", "subject-verb agreement across a relative clause"),
    _agreement("within_rc", "noun", "subject-verb agreement within a relative clause"),
    _agreement("nounpp", "subject", "subject-verb agreement across a prepositional phrase"),
    Generator(
        name="code-index",
        about="what a Python session prints for a list index: the item, or Traceback past the end",
        sample=code_output.sample_index,
        words={"digits": lexicon.DIGITS},
        roles={"digits": ("items", "target", "index")},
        answers=("digits", ""),
        fixed_answers=(code_output.ERROR,),
    ),
    Generator(
        name="code-key",
        about="what a Python session prints for a dictionary key: the value, or Traceback for a missing key",
        sample=code_output.sample_key,
        words={"names": lexicon.NAMES, "digits": lexicon.DIGITS},
        roles={
            "names": ("keys", "target_key", "query_key"),
            "digits": ("values", "target_value"),
        },
        answers=("digits", ""),
        fixed_answers=(code_output.ERROR,),
        spare={"names": lexicon.SPARE_NAMES},
    ),
)
GENERATORS: dict[str, Generator] = {generator.name: generator for generator in _ALL}


def get(name: str) -> Generator:
    """The generator called `name`. Raises :class:`UsageError` with the list if there is none."""
    if name not in GENERATORS:
        raise UsageError(f"task: expected one of {', '.join(GENERATORS)}, or a file of prompts; found {name!r}")
    return GENERATORS[name]
