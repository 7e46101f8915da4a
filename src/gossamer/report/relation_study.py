"""A study of relations in words and tables, and as a folder."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from gossamer import files
from gossamer.relations.folder import folder_data
from gossamer.relations.lifecycle import DEAD, LOST, MATCHINGS, PASSED, RARE, LifecycleCounts, threshold_sweep
from gossamer.relations.saved import load_folder, neighbours_of
from gossamer.relations.study_results import FoundGate, RelationsPart, RelationStudy
from gossamer.relations.truth_tables import TruthTable
from gossamer.report import style
from gossamer.report.coding import table
from gossamer.report.figures.relations import relation_sweep
from gossamer.report.relations_page import write_relations_page

Section = tuple[str, list[list[str]]]
_MOST = 16


def sentences(study: RelationStudy) -> Iterator[str]:
    """What was found, one statement a part, whether or not it is what was published."""
    found, settings = study.found, study.settings
    own = [one for one in at(study, matching="best") if one.threshold == settings["threshold"]]
    if own:
        measure, threshold = own[0].measure, own[0].threshold
        raw, alive, judged = ([_missing(one.ahead, kind) for one in own] for kind in ("raw", "alive", "judged"))
        yield (
            f"By {measure} at {threshold:g}, {_range(raw)} of each dictionary's latents have no partner in the next "
            f"one, {_range(alive)} of those that are alive, {_range(judged)} of those that can be judged."
        )
    if found.errors:
        medians = [one.median for one in found.errors]
        yield f"Of a latent's activation the next dictionary's error holds, in the median, {_range(medians)}."
    if found.searches:
        counts = [sum(one.found.values()) for one in found.searches]
        chance = sum(one.by_chance for one in found.searches)
        known = [one for one in found.gates if not math.isnan(one.precision) and not math.isnan(one.recall)]
        good = sum(min(one.precision, one.recall) >= 0.8 for one in known)
        yield (
            f"{sum(counts):,} gates of {sum(one.candidates for one in found.searches):,} candidates ({chance} in "
            f"shuffled documents); on held-out text {good} of the {len(known)} that can be told there hold."
        )
    if found.checked:
        checks = [check for one in found.checked for check in one.checks]
        told = [check for check in checks if check.judged]
        yield (
            f"Of {len(told):,} gates whose output lies downstream and whose inputs are active often enough to be "
            f"ablated, of {len(checks):,}, {sum(check.confirmed for check in told):,} do what the gate says."
        )
    if found.agreement:
        best = max(found.agreement, key=lambda one: -2.0 if math.isnan(one.spearman) else one.spearman)
        yield (
            f"What ablating does is best ranked by {best.measure}: Spearman {best.spearman:.2f} "
            f"[{best.low:.2f}, {best.high:.2f}] over {best.pairs} pairs."
        )


def at(study: RelationStudy, *, matching: str) -> list[LifecycleCounts]:
    """Lifecycles by the study's own measure and one matching, at all thresholds."""
    measure = study.settings["measures"][0]
    return [one for one in study.found.lifecycle if one.measure == measure and one.matching == matching]


def _missing(counts: Mapping[str, int], among: str) -> float:
    """Share of latents that are not passed on: of all, of those alive, or of those that can be judged."""
    left = {"raw": (), "alive": (DEAD,), "judged": (DEAD, RARE)}[among]
    total = sum(count for kind, count in counts.items() if kind not in left)
    return 1 - counts[PASSED] / total if total else math.nan


def _range(shares: list[float]) -> str:
    return f"{min(shares):.0%} to {max(shares):.0%}"


def sections(study: RelationStudy) -> Iterator[Section]:
    """A title and a table, the first row its head, for each thing that was measured."""
    found = study.found
    counted = [_dictionaries(found), _chance(found), _lifecycle(study), _matchings(study), _reappeared(study)]
    makers = (_errors, _gate_counts, _gates, _checked, _communities, _labels, _agreement, _effects, _sites)
    for title, rows in [*counted, *(maker(found) for maker in makers)]:
        if len(rows) > 1:
            yield title, rows


def _dictionaries(found: RelationsPart) -> Section:
    rows = [["dictionary", "latents", "active a token", "dead", "too rare", "explained variance"]]
    rows += [
        [one.name, f"{one.latents:,}", f"{one.active:.1f}", f"{one.dead:,}", f"{one.rare:,}", _n(one.explained)]
        for one in found.dictionaries
    ]
    return "The dictionaries on the counted text", rows


def _chance(found: RelationsPart) -> Section:
    measures = list(found.pairs[0].chance) if found.pairs else []
    rows = [["pair", "kept pairs", "ever together", *measures]]
    for one in found.pairs:
        values = [f"{_n(one.chance[name])} / {_n(one.edges[name])}" for name in measures]
        rows.append([_pair(one), f"{one.kept:,}", f"{one.together:.1%}", *values])
    title = "What chance reaches: 1 % of best partners in shuffled documents / from where 5 % of all pairs are chance"
    return title, rows


def _lifecycle(study: RelationStudy) -> Section:
    rows = [["pair", "threshold", "gone: of all", "of the alive", "of judged", "in the error", "new: of all"]]
    rows[0] += ["of the alive", "of judged", "passed on by chance", "dead, too rare"]
    for one in at(study, matching="best"):
        judged = sum(count for kind, count in one.ahead.items() if kind not in (DEAD, RARE))
        ahead, behind = (
            [_missing(side, kind) for kind in ("raw", "alive", "judged")] for side in (one.ahead, one.behind)
        )
        lost = one.ahead.get(LOST, 0) / judged if judged else math.nan
        shares = [f"{share:.1%}" for share in (*ahead, lost, *behind, one.chance)]
        rows.append([_pair(one), f"{one.threshold:g}", *shares, f"{one.ahead[DEAD]:,}, {one.ahead[RARE]:,}"])
    measure = study.settings["measures"][0]
    return f"Latents without a partner in the next dictionary, and new ones in it, by {measure}", rows


def _matchings(study: RelationStudy) -> Section:
    threshold = study.settings["threshold"]
    rows = [["pair", *(f"{name}, {how}" for name in study.settings["measures"] for how in MATCHINGS)]]
    found: dict[str, list[str]] = {}
    for one in study.found.lifecycle:
        if one.threshold == threshold:
            found.setdefault(_pair(one), []).append(f"{1 - _missing(one.ahead, 'judged'):.1%}")
    rows += [[pair, *shares] for pair, shares in found.items()]
    return f"Passed on at {threshold:g}, of judged upstream latents, by measure and matching", rows


def _reappeared(study: RelationStudy) -> Section:
    measure = study.settings["measures"][0]
    rows = [["pair", "skipping", "threshold", "no partner in between", "partner later", "by chance"]]
    rows[0] += ["of the lost ones", "partner later"]
    for one in study.found.reappeared:
        if one.measure == measure:
            counts = (one.gone, one.back, one.chance, one.lost, one.lost_back)
            rows.append([_pair(one), one.skipped, f"{one.threshold:g}", *(f"{count:,}" for count in counts)])
    return f"Features that vanish and reappear, by {measure}", rows


def _errors(found: RelationsPart) -> Section:
    rows = [["pair", "activation", "projection", "median share", "of gone latents", "shares from 0.9 to 1.1"]]
    rows += [
        [_pair(one), *map(_n, (one.activation, one.projection, one.median, one.median_gone)), f"{one.near_one:.1%}"]
        for one in found.errors
    ]
    return "What the next dictionary's error holds of a latent where it is well active", rows


def _gate_counts(found: RelationsPart) -> Section:
    kinds = ("AND", "OR", "XOR", "AND NOT")
    rows = [["inputs > output", "candidates", *kinds, "by chance", "one-sided: AND", "OR"]]
    for one in found.searches:
        counts = [one.candidates, *(one.found.get(kind, 0) for kind in kinds), one.by_chance]
        rows.append([_pair(one), *(f"{count:,}" for count in (*counts, one.one_sided["AND"], one.one_sided["OR"]))])
    return "Gates by full truth tables, and outputs that the published one-sided criterion (0.999) would name", rows


def _gates(found: RelationsPart) -> Section:
    rows = [["gate", "fires on", "precision, recall", "held out", "gain (nats)", "truth table", "held out"]]
    for one in strongest_gates(found, _MOST):
        gate = one.gate
        rows.append(
            [
                gate_name(one),
                " ; ".join(" ".join(map(repr, words)) for words in one.words),
                f"{gate.precision:.2f}, {gate.recall:.2f}",
                f"{_n(one.precision)}, {_n(one.recall)}",
                f"{gate.gain:.2g}",
                table_cells(gate.table),
                table_cells(one.held_out),
            ]
        )
    return "Gates with the largest gain (words of each input, then of the output; output on / tokens by pattern)", rows


def _checked(found: RelationsPart) -> Section:
    kinds = ("AND", "OR", "XOR", "AND NOT")
    rows = [["inputs > output", "gates", "too rare", "ablated", "confirmed", *(f"{kind}: confirmed" for kind in kinds)]]
    for one in found.checked:
        judged = [check for check in one.checks if check.judged]
        counts = [len(one.checks), len(one.checks) - len(judged), len(judged)]
        rows.append([_pair(one), *map(str, counts), str(sum(check.confirmed for check in judged))])
        for kind in kinds:
            own = [check for check in judged if check.gate.kind == kind]
            rows[-1].append(f"{sum(check.confirmed for check in own)} of {len(own)}" if own else "")
    return "Gates whose inputs were ablated on held-out text, and whose output did what the gate says", rows


def strongest_gates(found: RelationsPart, count: int) -> list[FoundGate]:
    """The gates with the largest gain, at most three of a pair of dictionaries."""
    kept: list[FoundGate] = []
    for one in sorted(found.gates, key=lambda one: -one.gate.gain):
        if sum(_pair(one) == _pair(other) for other in kept) < 3 and len(kept) < count:
            kept.append(one)
    return kept


def gate_name(one: FoundGate) -> str:
    """`resid_post.1: 5 AND 7 > resid_post.2: 3`."""
    gate = one.gate
    rest = [str(number) for number in gate.inputs if number != gate.negated]
    word = " AND " if gate.kind == "AND NOT" else f" {gate.kind} "
    said = word.join(rest) + (f" AND NOT {gate.negated}" if gate.negated is not None else "")
    return f"{one.upstream}: {said} > {one.downstream}: {gate.output}"


def table_cells(found: TruthTable) -> str:
    """For every pattern of inputs (the first to the left), output on / tokens."""
    size = found.inputs
    cells = [f"{pattern:0{size}b}"[::-1] + f": {on:,}/{off + on:,}" for pattern, (off, on) in enumerate(found.counts)]
    return "; ".join(cells)


def _communities(found: RelationsPart) -> Section:
    rows = [["graph", "edges (left out)", "nodes", "without an edge (dead)", "method", "communities", "of one node"]]
    rows[0] += ["largest", "stability", "modularity", "edges drawn anew: communities", "stability", "modularity"]
    for one in found.communities:
        method = one.method + ("" if one.weighted else ", unweighted")
        method += f" {one.resolution:g}" if one.method == "cpm" else ""
        random = one.chance or (math.nan, math.nan, math.nan)
        chance = (f"{random[0]:,.0f}", f"{random[1]:.2f}", f"{random[2]:.2f}")
        rows.append(
            [
                *(f"{one.measure} {one.threshold:g}", f"{one.edges:,} ({one.left_out:,})", f"{one.nodes:,}"),
                *(f"{one.isolated:,} ({one.dead:,})", method, f"{one.communities:,}", f"{one.alone:,}"),
                *(f"{one.sizes[0]:,}", f"{one.stability:.2f}", f"{one.quality:.2f}", *chance),
            ]
        )
    return "Communities", rows


def _labels(found: RelationsPart) -> Section:
    rows = [["graph", "nodes", "layers", "words that most of its latents fire on"]]
    for one in found.communities:
        if one.method == "leiden" and one.weighted:
            for label in one.labels[:4]:
                layers = f"{label.layers[0]} to {label.layers[-1]}" if len(label.layers) > 1 else label.layers[0]
                words = " ".join(map(repr, label.words))
                rows.append([f"{one.measure} {one.threshold:g}", f"{label.size:,}", layers, words])
    return "The largest communities (Leiden)", rows


def _agreement(found: RelationsPart) -> Section:
    rows = [["measure", "pairs", "Spearman", "95 % interval", "1 % of best partners by chance reach"]]
    for one in sorted(found.agreement, key=lambda one: -one.spearman if not math.isnan(one.spearman) else 2.0):
        reached = [pair.chance[one.measure] for pair in found.pairs if one.measure in pair.chance]
        interval = f"{one.low:.2f} to {one.high:.2f}"
        rows.append([one.measure, str(one.pairs), _n(one.spearman), interval, _n(max(reached, default=math.nan))])
    return "Which measure ranks pairs by what ablating does", rows


def _effects(found: RelationsPart) -> Section:
    bins = len(found.agreement[0].counts) if found.agreement else 0
    rows = [["measure", "", *(f"bin {place + 1}" for place in range(bins))]]
    for one in found.agreement:
        rows.append([one.measure, "mean", *map(_n, one.means)])
        rows.append(["", "median", *map(_n, one.medians)])
        rows.append(["", "next to nothing", *("" if math.isnan(share) else f"{share:.0%}" for share in one.still)])
    title = "Effect by bins of each measure, low to high; over the downstream latent's largest activation"
    return title, rows


def _sites(found: RelationsPart) -> Section:
    measures = [one.measure for one in found.ablations[0].agreement] if found.ablations else []
    rows = [["pair", "ablated pairs", *measures]]
    for one in found.ablations:
        rows.append([_pair(one), f"{len(one.i):,}", *(_n(agreement.spearman) for agreement in one.agreement)])
    return "Spearman's correlation with the effect, pair by pair", rows


def _pair(one: object) -> str:
    names = [getattr(one, side) for side in ("upstream", "downstream")]
    return ">".join(names)


def _n(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}" if abs(value) >= 0.095 or value == 0 else f"{value:.2g}"


def markdown(study: RelationStudy) -> str:
    """All sentences and tables."""
    said = "\n".join(f"- {sentence}" for sentence in sentences(study))
    return "\n\n".join([said, *(f"## {title}\n\n{table(rows)}" for title, rows in sections(study))]) + "\n"


def write_relation_study(study: RelationStudy, folder: str | Path) -> list[Path]:
    """Write tables.md, the pictures, and page.html with its data in page.json, beside the record and the relations;
    each atomically. Returns the pictures.

    Raises:
        UsageError: the folder has no relations.
        GossamerError: a damaged relation, or a folder that cannot be written.
    """
    from gossamer.report.figures.relation_study import pictures

    target = Path(folder)
    relations = load_folder(target)
    measures = list(study.settings["measures"])
    swept = {
        str(pair): [threshold_sweep(relations[pair], measure) for measure in measures]
        for pair in neighbours_of(relations)
    }
    files.write_text(target / "tables.md", markdown(study))
    drawn = {"sweep": relation_sweep(swept), **pictures(study)}
    for name, figure in drawn.items():
        style.save_png(figure, target / f"{name}.png")
    data = folder_data(target)
    write_relations_page(data, data.save(target / "page.json").with_suffix(".html"))
    return [target / f"{name}.png" for name in drawn]
