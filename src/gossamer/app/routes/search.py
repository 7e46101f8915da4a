"""Search over the run."""

from typing import Annotated

from fastapi import APIRouter, Query

from gossamer.app.python_calls import loading, store_command
from gossamer.app.schema.search import Kind, SearchPage, SpecificShape, TextSearch, TextSearchPage
from gossamer.app.search import KINDS, search
from gossamer.app.sets import found_set
from gossamer.app.workbench import Workbench
from gossamer.errors import UsageError
from gossamer.features.prompt_latents import prompt_tokens
from gossamer.report import text
from gossamer.store.specific import specific_latents


def search_routes(bench: Workbench) -> APIRouter:
    """GET /search and POST /search/text."""
    routes = APIRouter(prefix="/search")

    @routes.get("")
    def by_words(
        q: Annotated[str, Query(min_length=1, max_length=200)],
        kind: Kind | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        weights: bool = False,
    ) -> SearchPage:
        """Latents by name, label, token or logit word (without a store, with `weights`); nodes of circuits; files."""
        asked = q.strip()
        if not asked:
            raise UsageError("q: a word expected, found spaces alone")
        hits, counts, notes = search(bench, asked, KINDS if kind is None else (kind,), limit, weights=weights)
        return SearchPage(**bench.said(), q=asked, folder=str(bench.run.path), hits=hits, counts=counts, notes=notes)

    @routes.post("/text")
    def by_text(asked: TextSearch) -> TextSearchPage:
        """The latents that say most of a text: activation x log(1 / density)."""
        found = found_set(bench.run, asked.dictionaries)
        stores = bench.stores.of(found)
        if not stores:
            raise UsageError(
                "how often latents are active elsewhere is known of a feature store alone, and this run has none of "
                f"these dictionaries; build one with: {store_command(bench, found)}"
            )
        part = next(iter(stores.values()))
        with bench.model(found.part.id) as (model, dictionaries, bos), bench.stores.use(part) as store:
            latents = specific_latents(store, model, dictionaries, asked.text, bos=bos, count=asked.count)
            words = [model.word(token) for token in prompt_tokens(model, asked.text, bos).ids[0].tolist()]
            labels = store.cards([one.feature for one in latents])
            of_text = store.text
        python = (
            f"{loading(bench, found)}\nfrom gossamer.store import FeatureStore\n"
            f"from gossamer.store.specific import specific_latents\n\n"
            f"with FeatureStore({str(part.path.parent)!r}) as store:\n"
            f"    for one in specific_latents(store, model, dictionaries, {asked.text!r}, bos=bos):\n        print(one)"
        )
        return TextSearchPage(
            **bench.said(),
            tokens=list(map(text.visible, words)),
            latents=[
                SpecificShape(
                    feature=str(one.feature),
                    activation=one.activation,
                    position=one.position,
                    token=text.visible(words[one.position]),
                    density=one.density,
                    specificity=one.specificity,
                    label=text.visible(labels[one.feature].label),
                )
                for one in latents
            ],
            text=of_text,
            python=python,
        )

    return routes
