"""`gossamer relations`: a page to look at relations that were counted."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gossamer.cli import early, inputs, options
from gossamer.cli.exploring import Prompts
from gossamer.cli.printing import err, out, print_json
from gossamer.cli.relating import MeasureName
from gossamer.errors import UsageError

_METHODS = ("leiden", "cpm", "louvain", "components", "none")


def relations(
    folder: Annotated[Path, typer.Argument(help="What `gossamer relate` or `gossamer study-relations` wrote.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="For prompts and words of latents: the model that was read.", callback=early.known_model
        ),
    ] = None,
    dictionaries: options.Dictionaries = None,
    prompt: Prompts = None,
    text: Annotated[
        Path | None, typer.Option("--text", help=f"Latents are called by the words they fire on in it: {options.TEXT}.")
    ] = None,
    text_key: options.TextKey = "text",
    rows: Annotated[
        int, typer.Option(help="Texts of it to read, from the first.", callback=early.from_least("--rows", 1))
    ] = 512,
    store: options.CardsFrom = None,
    measure: MeasureName = "pearson",
    threshold: Annotated[
        float | None, typer.Option(help="Of the graph whose communities are found; default: the graph of the folder.")
    ] = None,
    communities: Annotated[
        str,
        typer.Option(
            help="leiden, cpm (Leiden, constant Potts), louvain, components or none.",
            callback=early.one_of("--communities", _METHODS),
        ),
    ] = "leiden",
    output: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The page; what it draws goes beside it as .json. Default: FOLDER/page.html.",
            callback=early.writable_file,
        ),
    ] = None,
    fact: options.Facts = None,
    allow_other_model: options.AllowOtherModel = False,
    device: options.Device = None,
    dtype: options.Dtype = None,
    family: options.FamilyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a page of relations that were counted: lifecycle, thresholds, gates, communities, the graph of a prompt.

    It is one HTML file that needs no model and no network. Gates and ablations are those of `gossamer relate --gates`
    (--confirm-gates, --ablate) or of a study. With --model, latents have words, and --prompt shows what a prompt
    lights up.

    Example: gossamer relations gossamer-out/relations --model bundled:spool --prompt "The boys near the dog"
    """
    page = folder / "page.html" if output is None else output
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out: a name that ends in .html expected, found {page}")
    if model is None and (prompt or dictionaries or fact or text is not None):
        raise UsageError(
            "--model: expected with --prompt, --text, --dictionaries or --fact, found none; give the model"
        )
    early.require_relations(folder)
    early.require_dictionaries(dictionaries, model)
    facts = early.dictionary_facts(fact)
    early.require_texts([] if text is None else [text])
    early.require_store(store)
    if store is not None and text is not None:
        raise UsageError("--store: what is said of latents comes from a store or from --text, found both; give one")
    from gossamer.progress import progress_bars
    from gossamer.relations import folder_data, from_cards, load_folder
    from gossamer.relations.folder import GRAPH
    from gossamer.report import write_relations_page

    if communities != "none" and threshold is None and not (folder / GRAPH).is_file():
        load_folder(folder)
        raise UsageError(f"--threshold: expected, as {folder} has no graph.json; give one, or --communities none")
    with inputs.feature_store(store) as source, progress_bars(err):
        title, lit, describe = None, (), None if source is None else from_cards(source)
        if model is not None:
            network = inputs.language_model(model, device, dtype, family)
            given = inputs.dictionary_set(
                network, model, dictionaries, facts=facts, allow_other_model=allow_other_model
            )
            texts = None if text is None else (text, text_key, rows)
            title, lit, own = _with_model(network, given, load_folder(folder), prompt or [], texts)
            describe = describe or own
        data = folder_data(
            folder,
            model=title,
            measure=measure,
            threshold=threshold,
            communities=None if communities == "none" else communities,
            prompts=lit,
            describe=describe,
        )
    if communities != "none" and not data.communities:
        err.print("communities: no pair reaches the threshold, so that there are none; give --threshold a lower one")
    written, saved = write_relations_page(data, page), data.save(page.with_suffix(".json"))
    if as_json:
        print_json({"page": str(written), "data": str(saved), "prompts": len(lit)})
        return
    out.print(f"page: {written} ({written.stat().st_size / 1e6:.1f} MB), data: {saved}", soft_wrap=True)


def _with_model(network: Any, given: Any, counted: Any, prompts: list[str], text: Any) -> tuple[str, Any, Any]:
    """The model's title, what prompts light up, and the words of latents."""
    from gossamer.activations import DocumentRows, RowConfig, read_texts
    from gossamer.activations.text import bos_id
    from gossamer.relations import ModelLatents, described, fired_on, from_words, prompt_latents, sources_of

    names = {name for pair in counted for name in pair}
    sources = {name: source for name, source in sources_of(network, given).items() if name in names}
    if missing := sorted(names - set(sources)):
        raise UsageError(f"--dictionaries: those of {', '.join(sorted(names))} expected, found none of {missing[0]}")
    lit = prompt_latents(sources, prompts)
    if text is None:
        return network.title, lit, described(sources)
    path, key, rows = text
    config = RowConfig(context=min(128, network.n_context), bos=0.0 if bos_id(network) is None else 1.0)
    stream = ModelLatents(sources, DocumentRows.of(network, read_texts(path, key)[:rows], config))
    return network.title, lit, from_words(fired_on(stream, count=6))
