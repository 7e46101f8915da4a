"""Everything about prompts that a page needs to be clicked through: every strong latent taken apart, once."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.attention.attribution_data import (
    AttributionData,
    DictionaryFacts,
    Function,
    Items,
    Limits,
    PromptAttribution,
    Score,
)
from gossamer.attention.batched import repeated, take_apart
from gossamer.attention.catalogue import Catalogue, group_of
from gossamer.attention.frozen import FrozenPass
from gossamer.attention.qk import HeadMaps, ScoreAttribution, attribute_score
from gossamer.attention.source import Source
from gossamer.attention.trace import Root, latent_root, logit_root, trace
from gossamer.attention.tracing import Dictionaries, answer_root
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.features.lens import logit_lens, writes_to_stream
from gossamer.features.links import neuronpedia_link
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.results.column import Column
from gossamer.tasks.published import TaskLike, task_of
from gossamer.tokens import Tokens

# Numbers of one batch of functions, pulled back to every token and head.
_BLOCK = 2**22
# Heads of a term that are listed, and words of a latent.
_HEADS, _WORDS = 3, 5
# Nodes of the tree from the root whose latents are taken apart although others are more active.
_TRACED = 120
# Terms that go on (attention without a dictionary): how many are taken apart of a latent's function and of a root's,
# and for how many steps.
_OF_LATENT, _OF_ROOT, _STEPS = 3, 12, 3


@dataclass(frozen=True)
class Question:
    """A prompt and what to begin with: the difference of two answers' logits, or a latent; nothing: only its latents.

    Attributes:
        text: the prompt.
        answer, wrong: two continuations, of which the first tokens are compared.
        feature, position: a latent at a token, counted from the end where negative.
    """

    text: str
    answer: str | None = None
    wrong: str | None = None
    feature: Feature | None = None
    position: int = -1

    __repr__ = short_repr


def attribution_data(
    model: LanguageModel,
    dictionaries: Dictionaries,
    questions: Sequence[str | Question],
    *,
    limits: Limits | None = None,
    bos: bool | None = None,
) -> AttributionData:
    """Take prompts apart, to be looked at (:func:`gossamer.report.write_attribution_page`).

    Memory and size: of one prompt at a time, see :func:`explore_prompt`.

    Args:
        model: the language model.
        dictionaries: autoencoders and transcoders, one for each site.
        questions: prompts, as texts or with what to begin with.
        limits: how much is listed.
        bos: whether BOS comes first; None: as the tokenizer does.

    Raises:
        UsageError: no prompts, or what the functions that it calls refuse.
    """
    found = []
    for question in questions:
        asked = Question(question) if isinstance(question, str) else question
        if asked.feature is not None and (asked.answer is not None or asked.wrong is not None):
            raise UsageError("exploring: a latent or an answer with a wrong one expected, found both; give one")
        frozen = FrozenPass.of(model, dictionaries, model.tokenize([asked.text], bos=bos))
        root = None
        if asked.feature is not None:
            root = latent_root(frozen, asked.feature, asked.position)
        elif asked.answer is not None or asked.wrong is not None:
            root = answer_root(frozen, asked.text, asked.answer, asked.wrong)
            root = replace(root, name=f"logit difference, {asked.answer!r} over {asked.wrong!r}")
        found.append((frozen, root))
    return _data(model, found, limits or Limits())


def task_attribution(
    model: LanguageModel,
    dictionaries: Dictionaries,
    task: TaskLike,
    *,
    prompts: int = 4,
    limits: Limits | None = None,
) -> AttributionData:
    """Take a task's first held-out prompts apart, each from the logit of its first right over its first wrong answer.

    Args:
        model: the language model.
        dictionaries: autoencoders and transcoders, one for each site.
        task: a task, the name of one, or its file.
        prompts: at most so many.
        limits: how much is listed.

    Raises:
        UsageError: fewer than one prompt asked for, or what the functions that it calls refuse.
    """
    if prompts < 1:
        raise UsageError(f"prompts: at least 1 expected, found {prompts}")
    chosen = task_of(task, model.tokenizer).test
    examples = chosen.select(torch.arange(min(prompts, len(chosen)))).to(model.device)
    found = []
    for row in range(len(examples)):
        mask, tokens = examples.clean.tokens.mask[row], examples.clean.tokens.ids[row]
        frozen = FrozenPass.of(model, dictionaries, Tokens.full(tokens[mask].unsqueeze(0)))
        answers = examples.answer[row : row + 1], examples.incorrect[row : row + 1]
        # Columns of padding before the prompt are gone.
        at = mask.cumsum(0)[examples.clean.answer_position[row : row + 1]] - 1
        right, wrong = (model.word(int(one)) for one in answers)
        root = replace(logit_root(frozen, *answers, at), name=f"logit difference, {right!r} over {wrong!r}")
        found.append((frozen, root))
    return _data(model, found, limits or Limits())


def _data(model: LanguageModel, passes: Sequence[tuple[FrozenPass, Root | None]], limits: Limits) -> AttributionData:
    if not passes:
        raise UsageError("exploring: at least one prompt expected, found none")
    prompts = tuple(explore_prompt(frozen, root, limits) for frozen, root in passes)
    facts = []
    for site, codes in passes[0][0].codes.items():
        one = codes.dictionary
        link = neuronpedia_link(one, 0)
        latents = sorted(
            {
                int(prompt.items.latent.values[function.item])
                for prompt in prompts
                for function in prompt.functions
                if prompt.items.sites[prompt.items.site.values[function.item]] == str(site)
                and prompt.items.latent.values[function.item] >= 0
            }
        )
        words = {}
        if latents and writes_to_stream(codes.writes):
            lens = logit_lens(model, one, latents, words=_WORDS)
            words = {
                str(latent): tuple(word for word, _ in read.promotes)
                for latent, read in zip(latents, lens, strict=True)
            }
        group = group_of("latent", site)
        facts.append(
            DictionaryFacts(str(site), site.layer or 0, group, one.n_latents, link and link.removesuffix("0"), words)
        )
    return AttributionData(model.title, model.n_layers, model.n_heads, tuple(facts), limits, prompts)


class _Request(NamedTuple):
    """A function to be taken apart: vector . value of `site` at a token, and a constant."""

    key: int
    position: int
    site: Site
    vector: Float[Tensor, "d"]
    value: float
    constant: float = 0.0
    parent: int | None = None
    # How many of its terms that go on are taken apart, and for how many steps.
    branches: int = _OF_LATENT
    steps: int = _STEPS


@torch.no_grad()
def explore_prompt(frozen: FrozenPass, root: Root | None = None, limits: Limits | None = None) -> PromptAttribution:
    """Take one prompt apart: its strongest latents, those on the largest paths to a root, and the root.

    Size in a file, in bytes, with F functions of T listed terms, A of them through attention of H heads, and P tokens:
    about F (350 + 8 T) + A (20 T + 2.7 H P) + 2.7 layers H P^2. Memory: a few times 2**22 numbers.

    Args:
        frozen: a pass of one prompt.
        root: what to begin with: a logit difference or a latent.
        limits: how much is listed.

    Raises:
        UsageError: several prompts.
    """
    limits = limits or Limits()
    if len(frozen.tokens) != 1:
        raise UsageError(f"exploring: one prompt expected, found {len(frozen.tokens)}; explore each by itself")
    work = _Exploration(frozen, limits, Catalogue(frozen))
    wave = list(work.latents(_chosen(frozen, root, limits)))
    first = None
    if root is not None:
        wave.append(work.root(root))
        first = len(wave) - 1
    while wave:
        wave = work.taken_apart(wave)
    words = tuple(frozen.model.word(token) for token in frozen.tokens.ids[0].tolist())
    seen = torch.ones(len(words), len(words)).tril().bool()
    patterns = (frozen.values[Site("pattern", layer)][0].cpu()[:, seen] for layer in range(frozen.model.n_layers))
    scores = list(work.scores())
    items, functions, found = work.finished(scores)
    return PromptAttribution(
        words,
        tuple(frozen.replaced[0].tolist()),
        first,
        None if root is None else root.name,
        items,
        functions,
        tuple(Column.of(pattern, "float32") for pattern in patterns),
        tuple(Column.of(codes.latents.counts.cpu(), "int32") for codes in frozen.codes.values()),
        found,
    )


def _chosen(frozen: FrozenPass, root: Root | None, limits: Limits) -> Iterator[tuple[Site, int, int]]:
    """Latents to take apart as (site, position, latent): the strongest, and those on the largest paths to the root."""
    found = {
        (site, position, latent): None
        for site, codes in frozen.codes.items()
        for position in range(frozen.tokens.ids.shape[1])
        for latent in list(codes.active(0, position))[: limits.latents]
    }
    if root is not None:
        for node in trace(frozen, root, nodes=_TRACED).nodes:
            site, latent, place = node.source.site, node.source.latent, node.source.place
            if site is not None and latent is not None and isinstance(place, int):
                found[site, place, latent] = None
    yield from sorted(found)


class _Made(NamedTuple):
    """A function taken apart, its terms as keys."""

    asked: _Request
    layer: int | None
    values: np.ndarray
    keys: np.ndarray
    by_head: np.ndarray
    constant: float
    counts: np.ndarray
    totals: np.ndarray


@dataclass(eq=False)
class _Exploration:
    """One prompt's functions while they are taken apart."""

    frozen: FrozenPass
    limits: Limits
    catalogue: Catalogue
    made: dict[int, _Made] = field(default_factory=dict)

    __repr__ = short_repr

    def latents(self, chosen: Iterable[tuple[Site, int, int]]) -> Iterator[_Request]:
        """The pre-activations of latents."""
        by_site: dict[Site, list[tuple[int, int]]] = defaultdict(list)
        for site, position, latent in chosen:
            by_site[site].append((position, latent))
        for site, places in by_site.items():
            codes, read = self.frozen.codes[site], self.frozen.values[site]
            positions, numbers = torch.tensor(places, device=read.device).T
            at = torch.zeros_like(positions), positions
            vectors, constants = codes.encoder(numbers, read)
            vectors = codes.at_input(vectors, at=at)
            values = (vectors * read[at]).sum(dim=1) + constants
            found = zip(places, vectors, values.tolist(), constants.tolist(), strict=True)
            for (position, latent), vector, value, constant in found:
                key = self.catalogue.key(Source("latent", site, latent, position))
                yield _Request(key, position, site, vector, value, constant)

    def root(self, root: Root) -> _Request:
        """The function of a root, which reads one token."""
        position = int(root.cotangent[0].abs().sum(dim=1).argmax())
        key = self.catalogue.key(Source("root", None, None, None))
        vector = root.cotangent[0, position]
        return _Request(key, position, root.site, vector, root.value, root.constant, None, _OF_ROOT, 2 * _STEPS)

    def taken_apart(self, wave: Sequence[_Request]) -> list[_Request]:
        """Make the functions of a wave, numbered in its order; returns those that go on from them."""
        first = len(self.made)
        by_site: dict[Site, list[int]] = defaultdict(list)
        for number, one in enumerate(wave):
            by_site[one.site].append(number)
        frozen = self.frozen
        batch = max(1, _BLOCK // (frozen.tokens.ids.shape[1] * frozen.model.n_heads * frozen.model.d_model))
        following: list[_Request] = []
        for numbers in by_site.values():
            for start in range(0, len(numbers), batch):
                part = numbers[start : start + batch]
                following += self._batch([wave[number] for number in part], [first + number for number in part])
        return following

    def _batch(self, wanted: Sequence[_Request], numbers: Sequence[int]) -> Iterator[_Request]:
        """Make functions of one site."""
        site = wanted[0].site
        positions = torch.tensor([one.position for one in wanted], device=self.frozen.replaced.device)
        vectors = torch.stack([one.vector for one in wanted])
        rows = repeated(self.frozen, len(wanted))
        table = take_apart(rows, self.catalogue, site, positions, vectors, self.limits.terms)
        layer, values = self._values(site, positions, vectors)
        for row, (one, number) in enumerate(zip(wanted, numbers, strict=True)):
            lines = slice(table.starts[row], table.starts[row + 1])
            self.made[number] = _Made(
                one,
                layer,
                values[row, :, : one.position + 1],
                table.keys[lines],
                table.by_head[lines],
                one.constant + float(table.constants[row]),
                table.counts[row],
                table.totals[row],
            )
        taken: dict[int, int] = defaultdict(int)
        for term in table.going_on:
            one = wanted[term.row]
            taken[term.row] += 1
            if one.steps > 0 and taken[term.row] <= one.branches:
                limits = one.branches, one.steps - 1
                function = term.key, term.position, term.site, term.vector, term.value
                yield _Request(*function, 0.0, numbers[term.row], *limits)

    def _values(self, site: Site, positions: Tensor, vectors: Tensor) -> tuple[int | None, np.ndarray]:
        """The layer that functions look through, and their v . w, (functions, heads, sources); no heads without one."""
        if site.kind not in ("z", "attn_out"):
            return None, np.zeros((len(vectors), 0, self.frozen.tokens.ids.shape[1]))
        layer = site.layer or 0
        if site.kind == "attn_out":
            vectors, _ = self.frozen.through_output(layer, vectors, at=(torch.zeros_like(positions), positions))
        values = self.frozen.repeated_values(layer)[0]
        return layer, torch.einsum("fhd,khd->fhk", self.frozen.by_head(vectors), values).double().cpu().numpy()

    def scores(self) -> Iterator[ScoreAttribution]:
        """Scores of the heads and pairs of positions that brought the largest shares of all functions together."""
        layers = sorted({one.layer for one in self.made.values() if one.layer is not None})
        patterns = {layer: self.frozen.values[Site("pattern", layer)][0].double().cpu().numpy() for layer in layers}
        brought = {layer: np.zeros_like(pattern) for layer, pattern in patterns.items()}
        for one in self.made.values():
            if one.layer is None:
                continue
            query, seen = one.asked.position, one.values.shape[1]
            parts = np.abs(one.values * patterns[one.layer][:, query, :seen])
            brought[one.layer][:, query, :seen] += parts / max(parts.sum(), np.finfo(float).tiny)
        if not layers:
            return
        every = np.stack(list(brought.values()))
        order = np.argsort(-every, axis=None, kind="stable")[: self.limits.scores]
        chosen = [place for place in zip(*np.unravel_index(order, every.shape), strict=True) if every[place] > 0]
        for place in sorted({int(one[0]) for one in chosen}):
            maps = HeadMaps(self.frozen, layers[place])
            for which, head, query, key in chosen:
                if which == place:
                    yield attribute_score(maps, int(head), int(query), int(key))

    def finished(self, scores: Sequence[ScoreAttribution]) -> tuple[Items, tuple[Function, ...], tuple[Score, ...]]:
        """Everything that was made, keys replaced by lines of the items."""
        listed = [[(pair[0], pair[1], value) for *pair, value in score.top(self.limits.pairs)] for score in scores]
        sources = {source: self.catalogue.key(source) for pairs in listed for one in pairs for source in one[:2]}
        keys = [np.array(list(sources.values()), dtype=np.int64)]
        keys += [np.append(one.keys, one.asked.key) for one in self.made.values()]
        every = np.unique(np.concatenate(keys))

        def lines(wanted: Sequence[int]) -> Column:
            return _lines(every, wanted)

        functions = tuple(_function(self.made[number], every) for number in range(len(self.made)))
        found = tuple(
            Score(
                score.layer,
                score.head,
                score.query,
                score.key,
                score.score,
                lines([sources[query] for query, _, _ in pairs]),
                lines([sources[key] for _, key, _ in pairs]),
                Column.of([value for _, _, value in pairs], "float32"),
                score.table.numel(),
                score.remainder,
            )
            for score, pairs in zip(scores, listed, strict=True)
        )
        return self.catalogue.items(every), functions, found


def _function(one: _Made, every: np.ndarray) -> Function:
    heads, by_head = np.zeros((0, 0)), np.zeros((0, 0))
    if one.layer is not None:
        heads = np.argsort(-np.abs(one.by_head), axis=1, kind="stable")[:, :_HEADS]
        by_head = np.take_along_axis(one.by_head, heads, axis=1)
    return Function(
        int(np.searchsorted(every, one.asked.key)),
        one.asked.parent,
        one.asked.value,
        one.constant,
        one.layer,
        Column.of(one.values, "float32"),
        _lines(every, one.keys),
        Column.of(one.by_head.sum(axis=1), "float32"),
        Column.of(heads, "uint8"),
        Column.of(by_head, "float32"),
        Column.of(one.counts, "int32"),
        Column.of(one.totals, "float32"),
    )


def _lines(every: np.ndarray, keys: Sequence[int] | np.ndarray) -> Column:
    return Column.of(np.searchsorted(every, keys), "uint16" if len(every) < 2**16 else "int32")
