"""Cards of features: everything that is known of each, from one pass over a text."""

from collections.abc import Iterable

from gossamer.activations.stream import BATCH
from gossamer.activations.token_mask import DEFAULT_MASK, TokenMask
from gossamer.dictionary.dictionary import Dictionary
from gossamer.features.examples import Activity, ExampleSettings, Text, activity, stratified, strongest
from gossamer.features.feature import Feature
from gossamer.features.feature_card import FeatureCard, Histogram
from gossamer.features.lens import LensWords, has_words, logit_lens
from gossamer.features.links import neuronpedia_link
from gossamer.features.neighbours import Neighbour, decoder_neighbours
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import SiteMapping, by_site


def feature_cards(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    features: Iterable[Feature],
    text: Text,
    *,
    settings: ExampleSettings | None = None,
    words: int = 8,
    neighbours: int = 8,
    mask: TokenMask = DEFAULT_MASK,
    batch_size: int = BATCH,
) -> dict[Feature, FeatureCard]:
    """A card of each feature: density, histogram, examples, logit-lens words, neighbours by their decoders, link.

    Memory and errors: as :func:`gossamer.features.examples.top_examples`.

    Args:
        features: latents of the dictionaries; each once is enough.
        text: tokens, a task (its training prompts), or texts.
        settings: which examples.
        words: logit-lens words each way.
        neighbours: of each feature, of all the dictionaries that write into the same space.
        mask: which tokens count.
    """
    settings, dictionaries = settings or ExampleSettings(), by_site(dictionaries)
    found = activity(model, dictionaries, features, text, settings=settings, mask=mask, batch_size=batch_size)
    known = [Feature(site, latent) for site, one in found.items() for latent in one.latents.tolist()]
    near = decoder_neighbours(dictionaries, known, count=neighbours) if neighbours else {}
    cards: dict[Feature, FeatureCard] = {}
    for site, one in found.items():
        dictionary, latents = dictionaries[site], one.latents.tolist()
        lens = logit_lens(model, dictionary, latents, words=words) if has_words(model, dictionary) else None
        for column, latent in enumerate(latents):
            read = LensWords((), ()) if lens is None else lens[column]
            feature = Feature(site, latent)
            link = neuronpedia_link(dictionary, latent)
            cards[feature] = _card(model, feature, one, column, read, settings, link, near.get(feature, ()))
    return cards


def card_of_weights(
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    feature: Feature,
    *,
    words: int = 8,
    neighbours: int = 8,
) -> FeatureCard:
    """What a feature's weights alone say: logit-lens words, neighbours by their decoders, link; of no text.

    Raises:
        UsageError: no such latent.
    """
    dictionaries = by_site(dictionaries)
    dictionary = dictionaries[feature.site]
    read = LensWords((), ())
    if has_words(model, dictionary):
        read = logit_lens(model, dictionary, [feature.latent], words=words)[0]
    near = decoder_neighbours(dictionaries, [feature], count=neighbours)[feature] if neighbours else ()
    return FeatureCard(
        feature,
        model.title,
        0,
        0,
        mean=0.0,
        std=0.0,
        maximum=0.0,
        histogram=Histogram((), ()),
        promotes=read.promotes,
        suppresses=read.suppresses,
        link=neuronpedia_link(dictionary, feature.latent),
        neighbours=near,
    )


def _card(
    model: LanguageModel,
    feature: Feature,
    found: Activity,
    column: int,
    read: LensWords,
    settings: ExampleSettings,
    link: str | None,
    neighbours: tuple[Neighbour, ...],
) -> FeatureCard:
    active = int(found.active[column])
    mean = float(found.total[column]) / max(active, 1)
    variance = float(found.squares[column]) / max(active, 1) - mean**2
    return FeatureCard(
        feature,
        model.title,
        found.tokens,
        active,
        mean=mean,
        std=max(variance, 0.0) ** 0.5,
        maximum=float(found.maximum[column]),
        histogram=found.histogram(column),
        promotes=read.promotes,
        suppresses=read.suppresses,
        examples=strongest(model, found, column),
        strata=stratified(model, found, column, settings),
        link=link,
        neighbours=neighbours,
    )
