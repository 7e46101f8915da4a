"""`gossamer export`: circuits and latents in the formats of other programs."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from gossamer.cli import early, options
from gossamer.cli.printing import err, out, print_json
from gossamer.errors import UsageError

_FORMATS = (
    "Of a circuit: neuronpedia (a graph for its upload), circuit-tracer (a folder for its server), graphml, svg (the "
    "figure for a paper) or html (the map alone). Of latents: saedashboard (its batch files) or neuronpedia-features "
    "(bodies of its upload)."
)


def export(
    source: Annotated[
        Path,
        typer.Argument(help="A circuit.json or a folder that holds one; for latents also a feature store or findings."),
    ],
    format: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            callback=early.one_of("--format", (*early.CIRCUIT_FORMATS, *early.LATENT_FORMATS)),
            help=_FORMATS,
        ),
    ],
    output: Annotated[Path | None, typer.Option("--out", help="File or folder; default: beside the source.")] = None,
    prompt: Annotated[
        int, typer.Option(help="Held-out prompt that a graph shows; another than the first needs the model.")
    ] = 0,
    view: Annotated[
        Path | None, typer.Option(help="A view that the workbench kept, views/NAME.json: its pins, groups, labels.")
    ] = None,
    latents: Annotated[
        list[str] | None, typer.Option("--feature", help="A latent of the store, SITE/LATENT; repeat. Default: all.")
    ] = None,
    model_id: Annotated[str, typer.Option(help="The model's name at Neuronpedia; default: its own.")] = "",
    set_name: Annotated[
        str, typer.Option("--set", help="Name of the set of dictionaries at Neuronpedia, such as res-16k.")
    ] = "gossamer",
    device: options.Device = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a circuit, or what is known of latents, in a format that other programs read.

    Example: gossamer export gossamer-out/circuit --format graphml
    """
    early.at_least("--prompt", prompt, 0)
    for option, value, formats in (
        ("--prompt", prompt, early.PROMPT_FORMATS),
        ("--view", view, early.PROMPT_FORMATS),
        ("--feature", latents, early.LATENT_FORMATS),
    ):
        if value and format not in formats:
            raise UsageError(f"{option}: for {' and '.join(formats)}, found --format {format}; leave it out")
    early.require_files([] if view is None else [view], "a view")
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder; give a circuit.json, or the --out of a command")
    if format in early.LATENT_FORMATS:
        written = _latents(source, format, output, latents, model_id, set_name)
    else:
        written = [_circuit(source, format, output, prompt, view, device)]
    if as_json:
        print_json({"format": format, "files": list(map(str, written))})
        return
    for path in written:
        out.print(str(path), soft_wrap=True)
    if format == "circuit-tracer":
        folder = written[0]
        err.print(
            f"circuit-tracer start-server --graph_file_dir {folder} --features_dir {folder / 'features'}",
            soft_wrap=True,
        )


def _circuit(
    source: Path, format: str, output: Path | None, prompt: int, view: Path | None, device: str | None
) -> Path:
    from gossamer.circuits.circuit import Circuit
    from gossamer.circuits.evaluate.rerun import restore_circuit
    from gossamer.circuits.export import graph_beside
    from gossamer.circuits.results import findings_beside
    from gossamer.report.circuit_export import FORMATS, export_circuit

    path = source / "circuit.json" if source.is_dir() else source
    circuit = Circuit.load(path)

    def graph() -> dict[str, Any]:
        known = graph_beside(circuit, path.parent) if prompt == 0 else None
        return restore_circuit(path, device=device).graph(prompt) if known is None else known

    marks = None if view is None else _marks(view, circuit)
    target = output or path.parent / "export" / f"{format}{FORMATS[format].ending}"
    return export_circuit(format, target, circuit, findings_beside(circuit, path.parent), graph, marks)


def _marks(view: Path, circuit: Any) -> Any:
    from gossamer.app.saved_view import FORMAT

    kept = FORMAT.load(view)
    if kept.circuit != circuit.sha256:
        raise UsageError(f"--view {view}: of another circuit; open this one in the workbench and keep a view of it")
    return kept.marks()


def _latents(
    source: Path, format: str, output: Path | None, latents: list[str] | None, model_id: str, set_name: str
) -> list[Path]:
    from gossamer import files
    from gossamer.features import Feature
    from gossamer.features.dashboards import neuronpedia_uploads, saedashboard_batches

    cards, model, text = _cards(source, [Feature.parse(one) for one in latents or ()])
    written, home = [], source if source.is_dir() else source.parent
    name = model_id or re.sub(r"[^a-z0-9._-]+", "-", model.rsplit("/", 1)[-1].lower()).strip("-.")
    for site in sorted({card.feature.site for card in cards}):
        own = [card for card in cards if card.feature.site == site]
        folder = (output or home / "export" / format) / str(site)
        uploads = format == "neuronpedia-features"
        source_name = f"{site.layer}-{set_name}"
        bodies = (
            neuronpedia_uploads(own, name, source_name) if uploads else saedashboard_batches(own, name, set_name, text)
        )
        for number, body in enumerate(bodies):
            written.append(files.write_json(folder / f"{'upload' if uploads else 'batch'}-{number}.json", body))
    return written


def _cards(source: Path, wanted: list[Any]) -> tuple[list[Any], str, str]:
    """Cards, the model's name and the text they are of: from a store, or from findings."""
    if (source / "store.json").is_file():
        from gossamer.features import Feature
        from gossamer.store import FeatureStore

        with FeatureStore(source) as store:
            every = wanted or [
                Feature(site, latent)
                for site in store.sites
                for latent in range(store.manifest.dictionaries[str(site)].n_latents)
            ]
            return list(store.cards(every).values()), store.manifest.model, store.text

    from gossamer.circuits.results import Findings

    path = source / "findings.json" if source.is_dir() else source
    if not path.is_file():
        raise UsageError(f"{source}: a feature store or findings expected, found neither store.json nor findings.json")
    findings = Findings.load(path)
    known = {node.card.feature: node.card for node in findings.nodes if not node.card.feature.is_error}
    if missing := [one for one in wanted if one not in known]:
        raise UsageError(f"--feature: latents of the circuit expected, found {missing[0]}; a feature store has all")
    return [known[one] for one in wanted or known], findings.model, findings.cards_of
