"""The examples of many features in one pass over a text: the strongest of each, and a fair sample of all.

Both are top-k selections that go along with the pass: by activation, and by a random number that every active token
gets, so that what is kept at the end is a uniform sample of the active tokens. Nothing is kept of all other tokens.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.activations.stream import BATCH, ActivationBatch, ActivationStream
from gossamer.activations.token_mask import DEFAULT_MASK, TokenMask
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.features.feature_card import HISTOGRAM_EDGES, FeatureExample, Histogram
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteMapping, by_site
from gossamer.tasks.task import Task
from gossamer.tokens import Tokens

Text = Tokens | Task | Sequence[str]
# Activations of a batch of rows that exist at once: tokens times features of a site.
_BLOCK_VALUES = 2**24
_EDGES = torch.tensor(HISTOGRAM_EDGES)


@dataclass(frozen=True)
class ExampleSettings:
    """Which examples are kept.

    Attributes:
        k: strongest examples of a feature, a document at most once.
        window: tokens before and after the firing one; None for whole rows.
        strata: quantile groups; 0 for none.
        per_stratum: examples of each group.
        sample: active tokens drawn for the groups; more make their bounds more exact.
        seed: of the sample.
    """

    k: int = 10
    window: tuple[int, int] | None = (32, 16)
    strata: int = 0
    per_stratum: int = 5
    sample: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if self.k < 1 or self.strata < 0 or self.per_stratum < 1 or self.sample < self.strata * self.per_stratum:
            raise UsageError(
                f"examples: k >= 1, strata >= 0 and a sample of at least strata x per_stratum expected, found k "
                f"{self.k}, {self.strata} strata of {self.per_stratum}, a sample of {self.sample}"
            )
        if self.window is not None and min(self.window) < 0:
            raise UsageError(f"examples: a window of at least 0 tokens each way expected, found {self.window}")


@dataclass
class Activity:
    """What one site's features did on a text.

    Attributes:
        latents: numbers of the features' latents.
        tokens: tokens looked at.
        active: on how many each was active; `total`, `squares`: sums of its activation, float64; `maximum`.
        counts: the histogram, a row a feature.
        top, sample: what is kept for examples.
    """

    latents: Int[Tensor, "c"]
    tokens: int
    active: Int[Tensor, "c"]
    total: Float[Tensor, "c"]
    squares: Float[Tensor, "c"]
    maximum: Float[Tensor, "c"]
    counts: Int[Tensor, "c bins"]
    top: "_Kept"
    sample: "_Kept"

    def histogram(self, column: int) -> Histogram:
        """Of one feature, from its first bin that holds something to its last."""
        return Histogram.from_bins(self.counts[column].tolist())


@dataclass
class _Kept:
    """The best places of each feature so far, best first; a score of -inf is no place.

    Windows are cut when places are offered: `positions` says where in its window a place is, ids of -1 are no tokens.
    """

    scores: Float[Tensor, "c k"]
    documents: Int[Tensor, "c k"]
    positions: Int[Tensor, "c k"]
    ids: Int[Tensor, "c k w"]
    values: Float[Tensor, "c k w"]

    @classmethod
    def empty(cls, columns: int, k: int, width: int) -> "_Kept":
        scores, places = torch.full((columns, k), -torch.inf), torch.full((columns, k), -1)
        return cls(scores, places, places, torch.full((columns, k, width), -1), torch.zeros(columns, k, width))

    def offer(self, other: "_Kept", *, distinct: bool) -> None:
        """Keep the best of what is here and of what is offered; with `distinct` a document once, by its best place."""
        k = self.scores.shape[1]
        scores = torch.cat([self.scores, other.scores], dim=1)
        documents = torch.cat([self.documents, other.documents], dim=1)
        if distinct:
            _, order = scores.sort(dim=1, descending=True, stable=True)
            ranked = documents.gather(1, order)
            again = (ranked[:, :, None] == ranked[:, None, :]).tril(diagonal=-1).any(dim=2)
            scores = scores.masked_fill(torch.zeros_like(again).scatter(1, order, again), -torch.inf)
        self.scores, order = (part[:, :k] for part in scores.sort(dim=1, descending=True, stable=True))
        self.documents = documents.gather(1, order)
        self.positions = torch.cat([self.positions, other.positions], dim=1).gather(1, order)
        windows = order[..., None].expand(-1, -1, self.ids.shape[2])
        self.ids = torch.cat([self.ids, other.ids], dim=1).gather(1, windows)
        self.values = torch.cat([self.values, other.values], dim=1).gather(1, windows)


def top_examples(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    features: Iterable[Feature],
    text: Text,
    *,
    settings: ExampleSettings | None = None,
    mask: TokenMask = DEFAULT_MASK,
    batch_size: int = BATCH,
) -> dict[Feature, tuple[FeatureExample, ...]]:
    """Where each feature fires most in a text: windows of tokens with the activation at every one of them.

    One pass of the model for all features of all sites; documents are the texts, the rows, or the task's training
    prompts. Examples of quantile groups (`ExampleSettings.strata`) follow the strongest.

    Memory: features x (k + sample) windows of 12 bytes a token, and 2**24 activations.

    Raises:
        UsageError: a feature of no dictionary given, or no text.
    """
    settings = settings or ExampleSettings()
    dictionaries = by_site(dictionaries)
    found = activity(model, dictionaries, features, text, settings=settings, mask=mask, batch_size=batch_size)
    return {
        Feature(site, int(latent)): (*strongest(model, one, column), *stratified(model, one, column, settings))
        for site, one in found.items()
        for column, latent in enumerate(one.latents.tolist())
    }


def activity(
    model: LanguageModel,
    dictionaries: Mapping[Site, Dictionary],
    features: Iterable[Feature],
    text: Text,
    *,
    settings: ExampleSettings,
    mask: TokenMask = DEFAULT_MASK,
    batch_size: int = BATCH,
) -> dict[Site, Activity]:
    """What every feature did on a text, by site; see :func:`top_examples`."""
    columns = _columns(dictionaries, features)
    tokens = text_tokens(model, text)
    width = tokens.ids.shape[1] if settings.window is None else sum(settings.window) + 1
    found = {site: _begin(latents, settings, width) for site, latents in columns.items()}
    largest = max(len(latents) for latents in columns.values())
    at_once = max(1, min(batch_size, _BLOCK_VALUES // (largest * tokens.ids.shape[1])))
    stream = ActivationStream(model, tokens, list(columns), mask=mask, batch_size=at_once, what="examples")

    def add(batch: ActivationBatch) -> None:
        values = {}
        for site, latents in columns.items():
            dictionary = dictionaries[site]
            x = batch.at(site).to(dictionary.W_dec.device)
            values[site] = dictionary.encode_dense(x, latents.to(x.device)).float().cpu()
        # Kept only once every site is through, so that a batch that runs out of memory can be tried again.
        for site, one in values.items():
            _add(found[site], one, batch, settings)

    stream.map(add)
    return found


def text_tokens(model: LanguageModel, text: Text) -> Tokens:
    """The rows of a text: tokens as they are, a task's training prompts, or texts as the tokenizer takes them."""
    if isinstance(text, Tokens):
        return text
    if isinstance(text, Task):
        return text.train.clean.tokens
    rows = model.tokenize(list(text))
    return rows.cut(min(rows.ids.shape[1], model.n_context))


def strongest(model: LanguageModel, found: Activity, column: int) -> tuple[FeatureExample, ...]:
    """The examples in which a feature (column of `found`) fires most."""
    return tuple(_examples(model, found.top, column, range(found.top.scores.shape[1]), None))


def stratified(
    model: LanguageModel, found: Activity, column: int, settings: ExampleSettings
) -> tuple[FeatureExample, ...]:
    """Examples of each quantile group of a feature's activations, the weakest group first."""
    kept = found.sample
    places = (kept.scores[column] > -torch.inf).nonzero()[:, 0]
    if not settings.strata or not len(places):
        return ()
    levels = kept.values[column, places].gather(1, kept.positions[column, places][:, None])[:, 0]
    ranked = places[torch.argsort(levels, stable=True)]
    chosen: list[FeatureExample] = []
    for stratum, group in enumerate(torch.tensor_split(ranked, settings.strata)):
        # The places of a sample lie in random order.
        drawn = group.sort().values[: settings.per_stratum]
        chosen += _examples(model, kept, column, drawn.tolist(), stratum)
    return tuple(chosen)


def _columns(dictionaries: Mapping[Site, Dictionary], features: Iterable[Feature]) -> dict[Site, Int[Tensor, "c"]]:
    """Latents asked for at each site, each once, in execution order of the sites."""
    wanted: dict[Site, dict[int, None]] = {}
    for site, latent in features:
        if site not in dictionaries or not 0 <= latent < dictionaries[site].n_latents:
            known = ", ".join(f"{site} (0 to {one.n_latents - 1})" for site, one in dictionaries.items())
            raise UsageError(f"feature {site}/{latent}: a latent of {known or 'some dictionary'} expected")
        wanted.setdefault(site, {})[latent] = None
    if not wanted:
        raise UsageError("examples: at least one feature expected, found none")
    return {site: torch.tensor(list(wanted[site])) for site in sorted(wanted)}


def _begin(latents: Int[Tensor, "c"], settings: ExampleSettings, width: int) -> Activity:
    count, sums = len(latents), torch.zeros(len(latents), dtype=torch.float64)
    return Activity(
        latents,
        tokens=0,
        active=torch.zeros(count, dtype=torch.long),
        total=sums,
        squares=sums.clone(),
        maximum=sums.clone(),
        counts=torch.zeros(count, len(_EDGES) - 1, dtype=torch.long),
        top=_Kept.empty(count, settings.k, width),
        sample=_Kept.empty(count, settings.sample if settings.strata else 0, width),
    )


def _add(
    found: Activity,
    values: Float[Tensor, "rows pos c"],
    batch: ActivationBatch,
    settings: ExampleSettings,
) -> None:
    """Count the latents of a batch and offer its places."""
    tokens, counted, first = batch.tokens, batch.mask, batch.rows.start
    seen = values[counted].double()
    found.tokens += len(seen)
    found.active += (seen > 0).sum(dim=0)
    found.total += seen.sum(dim=0)
    found.squares += seen.square().sum(dim=0)
    found.maximum = torch.maximum(found.maximum, seen.amax(dim=0)) if len(seen) else found.maximum
    token, column = (seen > 0).nonzero().unbind(dim=1)
    bins = torch.bucketize(seen[token, column].float(), _EDGES, right=True).clamp(1, len(_EDGES) - 1) - 1
    found.counts.view(-1).index_add_(0, column * found.counts.shape[1] + bins, torch.ones_like(bins))
    active = (values > 0) & counted[..., None]
    ids = tokens.ids.masked_fill(~tokens.mask, -1)
    best, position = values.masked_fill(~active, -torch.inf).max(dim=1)
    rows = torch.arange(len(values))[:, None].expand_as(position)
    found.top.offer(_offered(best, rows, position, ids, values, first, settings), distinct=True)
    if settings.strata:
        keys = _keys(len(values), values.shape[1:], first, settings.seed).masked_fill(~active, -torch.inf)
        best, flat = keys.flatten(0, 1).topk(min(settings.sample, keys.shape[0] * keys.shape[1]), dim=0)
        rows, position = flat // values.shape[1], flat % values.shape[1]
        found.sample.offer(_offered(best, rows, position, ids, values, first, settings), distinct=False)


def _keys(rows: int, shape: Sequence[int], first: int, seed: int) -> Float[Tensor, "rows pos c"]:
    """A random number for every place; the same whatever the batches are."""
    drawn = [
        torch.rand(*shape, generator=torch.Generator().manual_seed(seed + (first + row) * 1_000_003))
        for row in range(rows)
    ]
    return torch.stack(drawn)


def _offered(
    scores: Float[Tensor, "m c"],
    rows: Int[Tensor, "m c"],
    position: Int[Tensor, "m c"],
    ids: Int[Tensor, "rows pos"],
    values: Float[Tensor, "rows pos c"],
    first: int,
    settings: ExampleSettings,
) -> _Kept:
    """Places of a batch with their windows; `rows` are those of the batch."""
    length, columns = ids.shape[1], torch.arange(scores.shape[1])[:, None, None]
    rows, position = rows.t(), position.t()
    if settings.window is None:
        places = torch.arange(length).expand(*rows.shape, length)
        where = position
    else:
        before, after = settings.window
        places = position[..., None] + torch.arange(-before, after + 1)
        where = torch.full_like(position, before)
    inside, safe = (places >= 0) & (places < length), places.clamp(0, length - 1)
    chosen = ids[rows[..., None], safe].masked_fill(~inside, -1)
    return _Kept(scores.t(), rows + first, where, chosen, values[rows[..., None], safe, columns])


def _examples(
    model: LanguageModel, kept: _Kept, column: int, places: Iterable[int], stratum: int | None
) -> Iterator[FeatureExample]:
    for place in places:
        if kept.scores[column, place] > -torch.inf:
            ids, values = kept.ids[column, place], kept.values[column, place]
            real = ids >= 0
            position = int(real[: int(kept.positions[column, place])].sum())
            words = tuple(model.word(token) for token in ids[real].tolist())
            document = int(kept.documents[column, place])
            yield FeatureExample(words, tuple(values[real].tolist()), position, document, stratum)
