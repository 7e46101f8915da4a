"""A study of relations as tables, pictures and a folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gossamer import files
from gossamer.features.feature import Feature
from gossamer.features.feature_card import CardSource
from gossamer.model.site import Site
from gossamer.relations.causal import RankAgreement
from gossamer.relations.communities import Communities, community_words
from gossamer.relations.counting import SitePair
from gossamer.relations.gate_ablation import GateCheck
from gossamer.relations.gates import Gate
from gossamer.relations.graph import RelationGraph
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
        cells = [f"{_bits(pattern, size)}: {on:,}/{off + on:,}" for pattern, (off, on) in enumerate(gate.table.counts)]
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


def _bits(pattern: int, size: int) -> str:
    """The first input to the left."""
    return f"{pattern:0{size}b}"[::-1]


def gate_checks_table(checks: Sequence[GateCheck]) -> str:
    """Each gate with what ablating its inputs did: for every pattern and what is left of it (the first input to the
    left), what the gate says of the output, and how often it was active / tokens; patterns without support left out."""
    rows = [["kind", "inputs", "output", "confirmed", "least agreement", "after ablation"]]
    for one in checks:
        gate, size = one.gate, len(one.gate.inputs)
        cells = [
            f"{_bits(pattern.pattern, size)} → {_bits(pattern.left, size)} {'on' if pattern.predicted else 'off'}: "
            f"{pattern.on:,}/{pattern.tokens:,}"
            for pattern in one.judged
        ]
        inputs = ", ".join(f"not {name}" if name == gate.negated else str(name) for name in gate.inputs)
        agreement = f"{one.agreement:.3f}" if one.judged else "-"
        verdict = ("yes" if one.confirmed else "no") if one.judged else "too rare"
        rows.append([gate.kind, inputs, str(gate.output), verdict, agreement, "; ".join(cells)])
    return table(rows) + "\n"


def communities_table(
    graph: RelationGraph, found: Communities, count: int = 50, words: Mapping[int, Sequence[str]] | None = None
) -> str:
    """The first `count` communities: how many latents each has, of which dictionaries, and the first of them.

    With the words of nodes, those that most of a community's latents share.
    """
    rows = [["community", "latents", "dictionaries", "latents with the most edges"]]
    shared = None if words is None else community_words(found, words, 5)
    rows[0] += [] if shared is None else ["words"]
    degrees = np.bincount(np.r_[graph.heads, graph.tails], minlength=len(graph))
    for community, size in enumerate(found.sizes[:count].tolist()):
        members = found.members(community)
        ranked = members[np.argsort(-degrees[members], kind="stable")][:8]
        named = ", ".join(graph.names[source] for source in np.unique(graph.sources[members]).tolist())
        rows.append([str(community), f"{size:,}", named, ", ".join(graph.ids[node] for node in ranked.tolist())])
        if shared is not None:
            rows[-1].append(", ".join(map(visible, shared.get(community, ()))).replace("|", "\\|"))
    said = f"{found}: modularity {found.quality:.3f}, {int((found.sizes == 1).sum()):,} of one latent.\n\n"
    return said + table(rows) + "\n"


def agreement_table(found: Sequence[RankAgreement]) -> str:
    """How well each measure ranks pairs by what ablating does, the best first; effects by bins, low to high."""
    rows = [["measure", "pairs", "Spearman", "95 % interval", "mean effect by bin", "median"]]
    for one in sorted(found, key=lambda one: -one.spearman if one.spearman == one.spearman else 2.0):
        bins = (" ".join(f"{value:.3f}" for value in values) for values in (one.means, one.medians))
        rows.append([one.measure, str(one.pairs), f"{one.spearman:.2f}", f"{one.low:.2f} to {one.high:.2f}", *bins])
    return table(rows) + "\n"


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
