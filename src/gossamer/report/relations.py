"""A study of relations as tables, pictures and a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gossamer import files
from gossamer.features.feature import Feature
from gossamer.features.feature_card import CardSource
from gossamer.model.site import Site
from gossamer.relations.counting import SitePair
from gossamer.relations.gates import Gate
from gossamer.relations.lifecycle import DEAD, RARE, Lifecycle, sankey, threshold_sweep
from gossamer.relations.relation import Relation
from gossamer.report import style
from gossamer.report.coding import table
from gossamer.report.figures.relations import relation_sankey, relation_sweep
from gossamer.report.text import visible


def lifecycle_table(chain: Sequence[Lifecycle]) -> str:
    """Of each pair and side, the latents of each class, of all and of those that were judged."""
    rows = [["pair", "side", "class", "latents", "of all", "of judged"]]
    for one in chain:
        for side in ("upstream", "downstream"):
            raw, judged = (one.shares(side, judged=only) for only in (False, True))
            for kind, count in one.counts(side).items():
                share = "" if kind in (DEAD, RARE) else f"{judged[kind]:.1%}"
                rows.append([">".join(one.names), side, kind, f"{count:,}", f"{raw[kind]:.1%}", share])
    return table(rows) + "\n"


def gates_table(gates: Sequence[Gate], pair: SitePair | None = None, source: CardSource | None = None) -> str:
    """Each gate with its truth table: for every pattern of inputs (the first to the left), output on / tokens.

    With a source of cards, what it says of the inputs and the output, which are latents of the two sites of `pair`.
    """
    rows = [["kind", "inputs", "output", "precision", "recall", "gain (nats)", "q", "truth table"]]
    if pair is not None and source is not None:
        rows[0].append("what they are")
    for gate in gates:
        size = gate.table.inputs
        cells = [
            f"{pattern:0{size}b}"[::-1] + f": {on:,}/{off + on:,}"
            for pattern, (off, on) in enumerate(gate.table.counts)
        ]
        inputs = ", ".join(f"not {one}" if one == gate.negated else str(one) for one in gate.inputs)
        numbers = [f"{gate.precision:.3f}", f"{gate.recall:.3f}", f"{gate.gain:.3g}", f"{gate.q_value:.2g}"]
        rows.append([gate.kind, inputs, str(gate.output), *numbers, "; ".join(cells)])
        if pair is not None and source is not None:
            rows[-1].append(_said(gate, pair, source))
    return table(rows) + "\n"


def _said(gate: Gate, pair: SitePair, source: CardSource) -> str:
    upstream, downstream = (Site.parse(name) for name in pair)
    features = [*(Feature(upstream, one) for one in gate.inputs), Feature(downstream, gate.output)]
    cards = source.cards(features)
    *inputs, output = (f"{cards[one].feature.latent}: {visible(cards[one].label)}" for one in features)
    return f"{'; '.join(inputs)} → {output}".replace("|", "\\|")


def write_lifecycle(
    relations: Mapping[str, Relation], chain: Sequence[Lifecycle], folder: str | Path, measures: Sequence[str]
) -> Path:
    """Write lifecycle.md, sankey.png and .svg, sweep.png and .svg to a folder; each atomically. Returns the Sankey.

    Raises:
        GossamerError: no pairs, or a folder that cannot be written.
    """
    target = Path(folder)
    swept = {name: [threshold_sweep(one, measure) for measure in measures] for name, one in relations.items()}
    figures = {"sankey": style.settled(relation_sankey(sankey(chain))), "sweep": style.settled(relation_sweep(swept))}
    files.write_text(target / "lifecycle.md", lifecycle_table(chain))
    for name, figure in figures.items():
        files.write_text(target / f"{name}.svg", style.svg(figure))
        style.save_png(figure, target / f"{name}.png")
    return target / "sankey.png"
