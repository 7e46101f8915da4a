"""`gossamer explain` and `gossamer game`: words for features, and whether they are any good."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, out, print_json, warn_of_other_models
from gossamer.display import plural
from gossamer.errors import UsageError

_KEY = "OPENAI_API_KEY"
_REASONS = 5
_WITHOUT_MODEL = ("rule", *early.RULE_SCORERS, *(set(early.MODEL_SCORERS) - set(early.WRITING_SCORERS)))

StoreUrl = Annotated[str, typer.Argument(help="A store that `gossamer store build` wrote.")]
Wanted = Annotated[list[str] | None, typer.Option("--feature", help="SITE/LATENT; repeat. Default: some at random.")]
SiteName = Annotated[str | None, typer.Option("--site", help="Draw features of this site alone.")]
Endpoint = Annotated[
    str | None, typer.Option(help=f"A server with OpenAI's API, as http://127.0.0.1:8080/v1; its key from ${_KEY}.")
]
ModelName = Annotated[str, typer.Option("--model", help="Its name at the server; of --local a folder or id.")]


def explain(
    store: StoreUrl,
    feature: Wanted = None,
    site: SiteName = None,
    features: Annotated[
        int,
        typer.Option("--features", help="How many to draw at random.", callback=early.from_least("--features", 1)),
    ] = 50,
    by: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(early.EXPLAINERS[:-1])} or {early.EXPLAINERS[-1]}; repeat. Default: rule.",
            callback=early.one_of("--by", early.EXPLAINERS),
        ),
    ] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{', '.join(early.RULE_SCORERS)}; with a language model {', '.join(early.CHAT_SCORERS)}; with models "
            f"that are named for them {', '.join(early.MODEL_SCORERS)}; repeat. Default: the first six; with a "
            "language model detection and fuzzing.",
            callback=early.one_of("--score", (*early.RULE_SCORERS, *early.CHAT_SCORERS, *early.MODEL_SCORERS)),
        ),
    ] = None,
    dictionaries: options.StoreDictionaries = None,
    texts: Annotated[
        Path | None, typer.Option(help="Sentences of people: CSV with the columns feature and text.")
    ] = None,
    endpoint: Endpoint = None,
    model: ModelName = "",
    local: Annotated[bool, typer.Option("--local", help="Ask a transformers model in this process.")] = False,
    features_model: Annotated[
        str | None,
        typer.Option(
            help="The model of the store, for surprisal, intervention, clarity and faithfulness, and (with -d) for the "
            "words that amplified features make likelier, which --by output sees."
        ),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(help="A model that reads texts for surprisal and intervention. Default: --features-model."),
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(help="For embedding: a transformers encoder, or its name at --embedding-endpoint."),
    ] = None,
    embedding_endpoint: Annotated[
        str | None, typer.Option(help="A server with OpenAI's /v1/embeddings, as http://127.0.0.1:8080/v1.")
    ] = None,
    simulate: Annotated[
        str,
        typer.Option(
            help="list, one or all: how a language model simulates.",
            callback=early.one_of("--simulate", ("list", "one", "all")),
        ),
    ] = "list",
    structured: Annotated[bool, typer.Option("--structured", help="Ask for answers by a JSON schema.")] = False,
    concurrency: Annotated[
        int, typer.Option(help="Questions at once.", callback=early.from_least("--concurrency", 1))
    ] = 8,
    price: options.Price = "0,0",
    max_cost: options.MaxCost = None,
    random_weights: Annotated[
        str | None, typer.Option(help="The store of a model with random weights, for a control.")
    ] = None,
    scored: Annotated[
        int | None,
        typer.Option(
            help="Features whose explanations are scored, drawn at random. Default: all.",
            callback=early.from_least("--scored", 1),
        ),
    ] = None,
    items: Annotated[
        int,
        typer.Option(
            help="Active windows of a test, and as many silent ones.", callback=early.from_least("--items", 1)
        ),
    ] = 50,
    tokens: Annotated[int, typer.Option(help="Tokens of the store that are read, from the first.")] = 2_000_000,
    length: Annotated[int, typer.Option(help="Tokens of a window.")] = 32,
    keep: Annotated[bool, typer.Option("--keep", help="Put the explanations into the store.")] = False,
    neuronpedia: Annotated[str | None, typer.Option(help="MODEL/SOURCE: write Neuronpedia's upload form too.")] = None,
    seed: options.Seed = 0,
    output: options.Out = Path("gossamer-out/explain"),
    as_json: options.AsJson = False,
) -> None:
    """Say in words what features stand for, and score the words on text that they were not made from.

    Without a language model rules are found and followed by a program. Writes explanations.json and scores.json, which
    a stopped command goes on with, explanations.md, explanations.png, explanations.csv, and delphi's files.

    Example: gossamer explain STORE --features 20
    Example: gossamer explain STORE --by rule --by delphi --endpoint http://127.0.0.1:8080/v1 --model NAME
    """
    early.require_dictionaries(dictionaries)
    if texts is not None:
        early.require_files([texts], "explanations")
    _require_language_model(endpoint, model, (*(by or ()), *(score or ())), local=local)
    _require_models(score or (), features_model, reader, embedder, embedding_endpoint, dictionaries)
    early.require_store(store)
    early.require_store(random_weights)
    cost = inputs.prices(price)
    parts = (neuronpedia or "/").split("/")
    if len(parts) != 2 or (neuronpedia is not None and not all(parts)):
        raise UsageError(f"--neuronpedia: MODEL/SOURCE expected, found {neuronpedia!r}")

    from gossamer.dictionary import DictionarySet
    from gossamer.explain import ExplainSettings, ExplanationStudy, WindowSettings, choose_features
    from gossamer.explain.cost import estimate, require_affordable
    from gossamer.explain.export import read_texts, write_neuronpedia
    from gossamer.features import Feature
    from gossamer.progress import progress_bars
    from gossamer.store import FeatureStore

    chat, judge = _language_model(endpoint, model, local, simulate, structured, concurrency, cost, max_cost, output)
    scorers = tuple(score or (("detection", "fuzzing") if judge else early.RULE_SCORERS))
    windows = WindowSettings(length=length, tokens=tokens, positives=items, negatives=items, seed=seed)
    settings = ExplainSettings(tuple(by or ("rule",)), scorers, windows, seed=seed)
    told = {} if texts is None else read_texts(texts)
    given = None if dictionaries is None else DictionarySet.load(dictionaries)
    of_features, judges = _models(scorers, features_model, reader, embedder, embedding_endpoint, given, chat)
    with FeatureStore(store) as opened, progress_bars(err):
        chosen = [Feature.parse(one) for one in feature or ()] or list(told)
        chosen = chosen or choose_features(opened, features, site=site, seed=seed)
        study = ExplanationStudy(
            opened,
            chosen,
            settings,
            dictionaries=given,
            chat=chat,
            judge=judge,
            told=told,
            scored=scored,
            features_model=of_features,
            judges=judges,
        )
        if chat is not None and not local:
            expected = estimate(study, cost)
            err.print(str(expected), soft_wrap=True)
            require_affordable(expected, max_cost)
        found = study.run(output)
        control = None
        if random_weights is not None:
            with FeatureStore(random_weights) as other:
                drawn = choose_features(other, len(chosen), site=site, seed=seed)
                control = ExplanationStudy(other, drawn, settings, chat=chat, judge=judge, scored=scored).run(
                    output / "random-weights"
                )
        _write(found, opened, output, control, keep=keep)
        if neuronpedia is not None:
            write_neuronpedia(found, opened, output / "neuronpedia", parts[0], parts[1])
    _say(found, output, control, getattr(chat, "answered_by", set()), model, as_json=as_json)


def _require_language_model(endpoint: str | None, model: str, wanted: Sequence[str], *, local: bool) -> None:
    """Refuse half a language model, and explainers or scorers that need one where there is none."""
    early.require_whole_judge("--model", endpoint, model, local=local)
    if not model and (asking := [one for one in wanted if one not in _WITHOUT_MODEL]):
        raise UsageError(f"{asking[0]}: a language model (--endpoint or --local, with --model) expected, found none")


def _require_models(
    scorers: Sequence[str],
    features_model: str | None,
    reader: str | None,
    embedder: str | None,
    embedding_endpoint: str | None,
    dictionaries: Sequence[str] | None,
) -> None:
    """Refuse scorers whose models are missing, and models that nothing was asked of."""
    if embedding_endpoint is not None and embedder is None:
        raise UsageError("--embedder: its name at --embedding-endpoint expected, found none; give it")
    given = {
        "--embedder": embedder is not None,
        "--reader or --features-model": (reader or features_model) is not None,
        "--features-model": features_model is not None,
        "-d": dictionaries is not None,
    }
    needs = {
        "embedding": ("--embedder",),
        "surprisal": ("--reader or --features-model",),
        "intervention": ("--features-model", "-d"),
        **dict.fromkeys(early.WRITING_SCORERS, ("--features-model", "-d")),
    }
    for scorer in scorers:
        if lacking := [one for one in needs.get(scorer, ()) if not given[one]]:
            raise UsageError(f"--score {scorer}: {lacking[0]} expected with it, found none; give it too")
    if embedder is not None and "embedding" not in scorers:
        raise UsageError("--embedder: --score embedding expected with it; give both or none")
    if reader is not None and not {"surprisal", "intervention"} & set(scorers):
        raise UsageError("--reader: --score surprisal or intervention expected with it; leave it out")


def _models(
    scorers: Sequence[str],
    features_model: str | None,
    reader: str | None,
    embedder: str | None,
    embedding_endpoint: str | None,
    dictionaries: Any,
    chat: Any,
) -> tuple[Any, list[Any]]:
    """The model of the features with its dictionaries, where both are given, and the models that score."""
    from gossamer.chat import Endpoint, EndpointSettings
    from gossamer.explain.embedders import EndpointEmbedder, LocalEmbedder
    from gossamer.explain.model_judges import EmbeddingJudge, FeaturesModel, ReadingJudge, WritingJudge

    network = None if features_model is None else inputs.language_model(features_model, None, None, None)
    of_features: Any = None if network is None or dictionaries is None else FeaturesModel(network, dictionaries)
    found: list[Any] = []
    if embedder is not None and embedding_endpoint is None:
        local = LocalEmbedder(embedder)
        found.append(EmbeddingJudge(local, local.name))
    elif embedder is not None:
        server = Endpoint(EndpointSettings(str(embedding_endpoint), embedder))
        server.require_model()
        found.append(EmbeddingJudge(EndpointEmbedder(server), embedder))
    if {"surprisal", "intervention"} & set(scorers):
        reading: Any = network if reader is None else inputs.language_model(reader, None, None, None)
        found.append(ReadingJudge(reading, of_features if "intervention" in scorers else None))
    if set(early.WRITING_SCORERS) & set(scorers):
        found.append(WritingJudge(chat, of_features))
    return of_features, found


def _language_model(
    endpoint: str | None,
    model: str,
    local: bool,
    simulate: str,
    structured: bool,
    concurrency: int,
    prices: Any,
    max_cost: float | None,
    output: Path,
) -> tuple[Any, Any]:
    """The language model that explains and judges, and the judge that asks it; None twice where there is none."""
    chat = inputs.chat(
        endpoint,
        model,
        prices,
        max_cost,
        output / "answers",
        local=local,
        structured=structured,
        concurrency=concurrency,
    )
    if chat is None:
        return None, None

    from gossamer.explain import ChatJudge

    simulating: Any = simulate
    return chat, ChatJudge(chat, simulating=simulating, prompts=chat)


def _write(found: Any, store: Any, output: Path, control: Any, *, keep: bool) -> None:
    from gossamer.explain.export import keep_in_store, write_csv, write_delphi
    from gossamer.report.explanations import write_explanations

    write_explanations(found, output, control)
    write_csv(found, output / "explanations.csv")
    write_delphi(found, output / "delphi")
    if keep:
        methods = dict.fromkeys(row.explanation.method for row in found.explanations if row.explanation.text)
        # The last manner that was asked for is the one that stays where several say something of a feature.
        for method in methods:
            keep_in_store(found, store, method)


def _say(found: Any, output: Path, control: Any, answered_by: set[str], model: str, *, as_json: bool) -> None:
    from gossamer.explain.summary import no_better_than_words, summary
    from gossamer.results.values import to_json

    lines = summary(found, control)
    if as_json:
        told = [to_json(row) for row in found.explanations]
        print_json({"explanations": told, "summary": [to_json(line) for line in lines], "out": str(output)})
        return
    warn_of_other_models(model, answered_by)
    reasons = Counter(row.explanation.failure for row in found.explanations if not row.explanation.text)
    failed = sum(reasons.values())
    # Answers that were cut off differ from feature to feature: all of them would fill the screen.
    shown = reasons.most_common(_REASONS)
    told_why = [f"{count} {reason}" for reason, count in shown]
    others = failed - sum(count for _, count in shown)
    told_why += [f"{others} for other reasons, in explanations.md"] if others else []
    ending = f": {'; '.join(told_why)}" if failed else ""
    out.print(
        f"{plural(len(found.explanations) - failed, 'explanation')}, {failed} without one{ending}", soft_wrap=True
    )
    for line in lines:
        control_name = f" ({line.control})" if line.control else ""
        rest = f"{line.scored} scored, {line.unscored} not, {line.failures:.1%} of the items failed"
        out.print(f"{line.method} by {line.judge}, {line.scorer}{control_name}: {line.said}; {rest}", soft_wrap=True)
    for method, (no_better, count) in no_better_than_words(found).items():
        out.print(f"{method}: no better than a word list at {no_better} of {count} features")
    out.print(f"wrote {output}", soft_wrap=True)


def game(
    store: StoreUrl,
    feature: Wanted = None,
    site: SiteName = None,
    rounds: Annotated[int, typer.Option(help="Features of the round.", callback=early.from_least("--rounds", 1))] = 10,
    dictionaries: options.StoreDictionaries = None,
    page: Annotated[
        Path | None,
        typer.Option(help="Write one HTML file to be played in a browser instead.", callback=early.writable_file),
    ] = None,
    name: Annotated[str, typer.Option(help="Of the player, on the leader board.")] = "you",
    endpoint: Endpoint = None,
    model: Annotated[str, typer.Option("--model", help="Name of the language model at the server.")] = "",
    board: Annotated[Path, typer.Option(help="The leader board's file.", callback=early.writable_file)] = Path(
        "gossamer-out/game.json"
    ),
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Are you smarter than an LLM? See where a feature is active, say what it stands for, and sort ten texts.

    The same texts in the same order for you, a rule, and a language model if there is one. Keys 1 to 4, y and n.

    Example: gossamer game STORE --rounds 5
    """
    early.require_dictionaries(dictionaries)
    if (endpoint is None) != (not model):
        raise UsageError("game: --endpoint and --model, or none of them, expected; give the other one too")
    early.require_store(store)

    from gossamer.cli.playing import play
    from gossamer.dictionary import DictionarySet
    from gossamer.explain import Prices
    from gossamer.explain.game import add_to_board, drawn_round, machine_players, new_round
    from gossamer.features import Feature
    from gossamer.progress import progress_bars
    from gossamer.report.game_page import write_game
    from gossamer.store import FeatureStore

    given = None if dictionaries is None else DictionarySet.load(dictionaries)
    _, judge = _language_model(endpoint, model, False, "list", False, 8, Prices(), None, board.parent)
    with FeatureStore(store) as opened, progress_bars(err):
        if wanted := [Feature.parse(one) for one in feature or ()]:
            made = machine_players(new_round(opened, wanted, rounds, dictionaries=given, seed=seed), judge)
        else:
            made = drawn_round(opened, rounds, seed, site=site, dictionaries=given, judge=judge)
    if page is not None:
        write_game(made, page)
        out.print(f"wrote {page}", soft_wrap=True)
        return
    played = play(made, name, sys.stdin.readline)
    add_to_board(board, made, played)
    if as_json:
        print_json({"round": made.name, "players": {one.player: one.to_json() for one in (*made.machines, played)}})
