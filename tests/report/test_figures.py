"""What the figures draw is what the findings say."""

import math
from dataclasses import replace
from itertools import pairwise

import matplotlib
import pytest
import report_sample as sample
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon
from matplotlib.text import Text

from gossamer.circuits.results import PromptView
from gossamer.errors import GossamerError
from gossamer.features.feature import ERROR, Feature
from gossamer.report import budget, circuit_map, claims, completeness, curves, layout, stability, style
from gossamer.report.edges import edges_between
from gossamer.report.figures.curves import spread
from gossamer.statistics import Interval


@pytest.fixture(scope="module")
def findings():
    return sample.findings()


@pytest.mark.parametrize("draw", [budget, circuit_map, completeness, curves, stability])
def test_figures_are_plain_figures_and_leave_no_settings_behind(findings, draw):
    before = dict(matplotlib.rcParams)
    figure = draw(findings)
    assert isinstance(figure, Figure)
    assert not hasattr(figure, "number")
    assert dict(matplotlib.rcParams) == before


def test_curves_draw_every_point_of_every_method(findings):
    (axes,) = curves(findings).axes
    lines = {line.get_label(): line for line in axes.lines if line.get_gid()}
    assert list(lines) == [curve.method for curve in findings.curves]
    for curve in findings.curves:
        xs, ys = lines[curve.method].get_data()
        assert list(xs) == sorted(point.size for point in curve.points)
        assert list(ys)[::-1] == [point.task_metrics.faithfulness.value for point in curve.points]
    assert len(axes.collections) == len(findings.curves)
    levels = [line.get_ydata()[0] for line in axes.lines if not line.get_gid()]
    assert levels == [1.0, sample.CEILING, sample.EMPTY]


def test_scatter_has_a_point_a_subset(findings):
    dots = completeness(findings).axes[0].collections[0]
    expected = [(point.circuit, point.model) for point in findings.completeness.points]
    assert [tuple(pair) for pair in dots.get_offsets()] == expected


def test_budget_has_a_row_a_network(findings):
    axes = budget(findings).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [row.name for row in findings.budget]
    assert "0.87 [0.84, 0.90]" in [text.get_text() for text in axes.texts]
    named = {axes.get_xlabel(): [text.get_text() for text in axes.texts] for axes in budget(findings).axes}
    assert (named["accuracy"][-2], named["top-1"][-2]) == ("96\u202f%", "91\u202f%")


def test_heat_maps_hold_the_matrices(findings):
    figure = stability(findings)
    images = [axes.images[0].get_array().tolist() for axes in figure.axes if axes.images]
    n = len(findings.stability)
    assert images[:n] == [[list(row) for row in overlap.jaccard] for overlap in findings.stability]
    assert images[n:] == [[list(row) for row in overlap.containment] for overlap in findings.stability]


@pytest.mark.parametrize("n_nodes", [0, 1, 18, 300])
def test_every_node_is_drawn_or_counted_in_its_own_cell(n_nodes):
    findings = sample.findings(n_nodes) if n_nodes else replace(sample.findings(1), nodes=())
    drawing = layout.circuit_layout(findings)
    assert len(drawing.pills) + sum(more.count for more in drawing.more) == n_nodes
    rows = {row.site: row for row in drawing.rows}
    columns = {role: column for column in drawing.columns for role in column.roles}
    for pill in drawing.pills:
        node = findings.nodes[pill.node]
        row, column = rows[str(node.site)], columns[node.role]
        assert row.y <= pill.y <= pill.y + layout.PILL <= row.y + row.height
        assert column.x <= pill.x <= pill.x + pill.width <= column.x + column.width
    corners = [(pill.x, pill.y) for pill in drawing.pills] + [(more.x, more.y) for more in drawing.more]
    assert len(set(corners)) == len(corners)
    # Of 300 nodes, seven roles have some: with the shortest labels they are a little wider than a page.
    assert drawing.width <= layout.WIDEST * (1.12 if n_nodes == 300 else 1.0)


def test_a_crowded_cell_shows_its_strongest_nodes():
    findings = sample.findings(300)
    drawing = layout.circuit_layout(findings)
    more = max(drawing.more, key=lambda more: more.count)
    cell = [i for i, node in enumerate(findings.nodes) if (str(node.site), node.role) == (more.site, more.role)]
    shown = [pill.node for pill in drawing.pills if pill.node in cell]
    weakest = min(abs(findings.nodes[i].effect) for i in shown)
    assert all(abs(findings.nodes[i].effect) <= weakest for i in set(cell) - set(shown))


def test_sites_rise_and_changed_tokens_stand_below_the_prompt(findings):
    drawing = layout.circuit_layout(findings)
    assert [row.site for row in drawing.rows] == [str(site) for site in reversed(sample.SITES)]
    changed = [chip for chip in drawing.chips if chip.kind == "counterfactual"]
    assert [chip.label for chip in changed] == ["␣Peter", "␣Alice", "␣Robert"]
    assert min(chip.y for chip in changed) > max(chip.y for chip in drawing.chips if chip.kind == "token")
    assert [chip.label for chip in drawing.chips if chip.kind == "passed"] == ["<bos>"]


def test_the_legend_fits_a_narrow_drawing(findings):
    narrow = replace(
        findings, roles=("END",), prompt=PromptView(("a",), ("END",), ("a",), "b", "c"),
        nodes=tuple(replace(node, role="END") for node in sample.findings(300).nodes),
    )  # fmt: skip
    drawing = layout.circuit_layout(narrow)
    assert drawing.more
    assert drawing.legend.endswith(layout.MORE)
    assert drawing.width >= drawing.left + layout.LEGEND_AT + 5 * len(drawing.legend)


def test_chips_stay_inside_their_columns(findings):
    drawing = layout.circuit_layout(findings)
    for chip in drawing.chips:
        assert any(c.x <= chip.x and chip.x + chip.width <= c.x + c.width for c in drawing.columns), chip


def test_many_positions_share_columns_and_unequal_prompts_are_written_out(findings):
    roles = tuple(f"p{k}" for k in range(40))
    prompt = PromptView(tuple(f" w{k}" for k in range(40)), roles, tuple(f" v{k}" for k in range(38)), " yes", " no")
    nodes = tuple(replace(node, role=roles[7 * k % 40]) for k, node in enumerate(findings.nodes[:4]))
    drawing = layout.circuit_layout(replace(findings, roles=roles, prompt=prompt, nodes=nodes))
    assert sum(len(column.roles) for column in drawing.columns) == 40
    assert len(drawing.columns) < 12
    assert drawing.counterfactual_y is None
    assert drawing.notes[0][1].startswith("counterfactual: ␣v0")
    circuit_map(replace(findings, roles=roles, prompt=prompt, nodes=nodes))


def test_a_node_outside_the_axes_is_refused(findings):
    stray = replace(findings, nodes=(replace(findings.nodes[0], role="S9"),))
    with pytest.raises(GossamerError, match=r"S9.*expected a site of .* and a role of"):
        circuit_map(stray)


def test_roles_must_fit_the_tokens(findings):
    with pytest.raises(GossamerError, match=r"expected a role .* for each of its 20 tokens, found 1"):
        circuit_map(replace(findings, prompt=replace(findings.prompt, roles=("END",))))


@pytest.mark.parametrize(
    ("draw", "without"), [(curves, {"curves": ()}), (stability, {"stability": ()}), (budget, {"budget": ()})]
)
def test_figures_without_numbers_are_refused(findings, draw, without):
    with pytest.raises(GossamerError, match=r"expected .* found none"):
        draw(replace(findings, **without))


def test_stability_is_said_of_searches_and_not_of_sizes_that_nest(findings):
    seed, split, size = findings.stability
    said = claims.stability(findings)
    # Mean over the six pairs of samples: distances 1, 1, 1, 2, 2, 3.
    mean = (3 * 0.84 + 2 * 0.84**2 + 0.84**3) / 6
    expected = (
        f"{mean:.2f} [0.53, 0.98] between all prompts and 3 samples of them, "
        "0.71 between 2 halves of the training prompts"
    )
    assert said == f"Searches agree with a mean Jaccard index of {expected}"
    assert claims.stability(replace(findings, stability=(seed, split))) == said
    ranked = replace(seed, kind="gradients", jaccard=split.jaccard)
    beside = replace(findings, stability=(seed, ranked, split, size))
    assert claims.stability(beside) == f"{said}; as many nodes by attribution patching on the same samples, 0.71"
    assert len(stability(beside).axes) == len(stability(findings).axes), "a number in the title, not a picture"
    alone = replace(findings, stability=(size,))
    assert claims.stability(alone) is None
    assert stability(alone).get_suptitle() == "Circuits on one path, by size"


def test_the_comparison_names_whoever_is_better(findings):
    assert claims.curves(findings) == (
        "Gossamer mask keeps 80\u202f% of the logit difference with 30 nodes; "
        'the best baseline, "reference recipe", needs 55'
    )
    ours, reference, *_ = findings.curves
    swapped = replace(findings, curves=(reference, ours))
    assert claims.curves(swapped).endswith('with 55 nodes; "gossamer mask" needs only 30')
    assert claims.curves(replace(findings, curves=(ours,))).endswith("with 30 nodes")


def test_names_on_the_curves_never_touch():
    placed = spread([0.8, 0.81, 0.82, 1.0, 1.0], 0.1, 0.0, 1.1)
    assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(placed))
    assert placed[-1] <= 1.1


def test_drawings_survive_mathtext_and_unknown_scripts(findings):
    odd = replace(
        findings.prompt, tokens=("$\\frac{", *findings.prompt.tokens[1:]), answer=" 中文 $x$", incorrect="\u202e\n"
    )
    figure = circuit_map(replace(findings, prompt=odd))
    style.svg(figure)
    assert any("\\u4e2d" in text.get_text() or "中" in text.get_text() for text in figure.axes[0].texts)


def outside(figure):
    """Texts that leave the figure, of fonts as they are on this machine."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    whole = figure.bbox.padded(1)
    drawn = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    boxes = {text.get_text(): text.get_window_extent(renderer) for text in drawn}
    return [said for said, box in boxes.items() if not (whole.contains(*box.min) and whole.contains(*box.max))]


@pytest.mark.parametrize("families", [None, ["DejaVu Sans"]], ids=["fonts of this machine", "DejaVu"])
@pytest.mark.parametrize("draw", [budget, circuit_map, completeness, curves, stability])
def test_no_text_leaves_its_figure(findings, draw, families, monkeypatch):
    if families is not None:
        monkeypatch.setattr(style, "_families", lambda: families)
    long = replace(findings, kept="logit difference of the two names", stability=findings.stability[:1])
    for one in (findings, long, replace(findings, stability=findings.stability[2:])):
        with style.paper():
            assert outside(draw(one)) == []


def test_what_stands_under_a_narrow_map_is_whole_in_the_picture(findings):
    narrow = replace(
        findings, roles=("END",), prompt=PromptView(("a",), ("END",), ("a",), "b", "c"),
        nodes=tuple(replace(node, role="END") for node in findings.nodes),
    )  # fmt: skip
    figure = circuit_map(narrow)
    assert any("the strongest among these nodes" in text.get_text() for text in figure.axes[0].texts)
    # Letters are drawn on whole pixels: in the picture's resolution they are wider than in the layout's.
    figure.set_dpi(style.DPI)
    assert outside(figure) == []


def test_lines_are_measured_and_not_counted():
    narrow, broad = "i" * 40, "W" * 40
    assert style.width(narrow) < 0.5 * style.width(broad)
    sentence = " ".join(["ill"] * 30), " ".join(["WMW"] * 30)
    thin, thick = (style.broken(one, 3.0).splitlines() for one in sentence)
    assert len(thin) < len(thick)
    for line in (*thin, *thick):
        assert style.width(line) <= 3.0
    assert [" ".join(lines) for lines in (thin, thick)] == list(sentence)
    short = style.shortened(sentence[1], 2.0)
    assert short.endswith(" …")
    assert style.width(short) <= 2.0 < style.width(" ".join(["WMW"] * (short.count("WMW") + 1)) + " …")
    assert style.shortened("as it is", 3.0) == "as it is"


def test_sizes_alone_are_a_small_figure(findings):
    alone = stability(replace(findings, stability=findings.stability[2:]))
    assert alone.get_size_inches()[1] < 3 < alone.get_size_inches()[0]
    images = [axes.images[0].get_array().tolist() for axes in alone.axes if axes.images]
    assert images[:2] == [[list(row) for row in matrix] for matrix in (
        findings.stability[2].jaccard, findings.stability[2].containment)]  # fmt: skip


def test_a_chosen_circuit_below_all_levels_does_not_speak_for_the_curve(findings):
    weak = replace(findings.budget[-2], faithfulness=Interval(0.04, 0.02, 0.06))
    chosen = replace(findings, budget=(*findings.budget[:-2], weak, findings.budget[-1]))
    best = max(point.task_metrics.faithfulness.value for point in findings.curves[0].points)
    assert best > 0.8
    said = claims.curves(chosen)
    assert "reaches 10" not in said
    assert said.startswith(f"Gossamer mask keeps {max(value for value in claims.LEVELS if value <= best):.0%}"[:-1])


def test_ties_are_counted_and_no_contrast(findings):
    ours, reference, *_ = findings.curves
    same = replace(findings, curves=(ours, replace(reference, method="zeta"), replace(reference, method="alpha")))
    assert claims.curves(same).endswith('; the best 2 of 2 baselines (one is "zeta") need 55')
    ahead = replace(findings, curves=(reference, replace(ours, method="zeta"), replace(ours, method="alpha")))
    assert claims.curves(ahead).endswith('; 2 of 2 baselines (one is "zeta") need only 30')
    level = replace(findings, curves=(ours, replace(ours, method="zeta, signed"), reference))
    assert claims.curves(level).endswith('with 30 nodes; the best baseline, "zeta, signed", needs as many')


def test_the_dictionaries_name_stands_above_the_lines(findings):
    (axes,) = curves(findings).axes
    label = next(text for text in axes.texts if text.get_text() == "model + dictionaries")
    assert label.get_zorder() > max(line.get_zorder() for line in axes.lines)
    assert label.get_bbox_patch() is not None


def test_unknown_effects_are_drawn_as_unknown():
    (pill,) = layout.circuit_layout(sample.bare()).pills
    assert (pill.fill, pill.arrow) == (style.PAPER, 0)
    assert math.isnan(sample.bare().nodes[0].effect)


def drawn_texts(figure):
    """Every text with its box, as drawn."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    return [(text.get_text(), text.get_window_extent(renderer)) for text in figure.axes[0].texts]


def test_words_stand_in_the_pills_and_touch_nothing(findings):
    figure = circuit_map(findings)
    drawing = layout.circuit_layout(findings)
    assert figure.get_size_inches()[0] <= style.PAGE
    labels = {pill.label for pill in drawing.pills}
    assert any(" " in label or label.isalpha() for label in labels)
    assert not any(label.isdecimal() for label in labels)
    texts = drawn_texts(figure)
    inside = [(said, box) for said, box in texts if said in {style.drawable(label) for label in labels}]
    assert len(inside) >= len(drawing.pills)
    pills = {patch.get_gid(): patch for patch in figure.axes[0].patches if (patch.get_gid() or "").startswith("node-")}
    assert len(pills) == len(drawing.pills)
    boxes = [patch.get_window_extent() for patch in pills.values()]
    for said, box in inside:
        assert any(outer.padded(1).contains(*box.min) and outer.padded(1).contains(*box.max) for outer in boxes), said
    for k, (said, box) in enumerate(texts):
        others = [name for name, other in texts[k + 1 :] if box.padded(-1.5).overlaps(other.padded(-1.5))]
        assert said.isspace() or not others, (said, others)


def with_error(findings):
    """The findings with an error in place of the first latent, which has the largest effect."""
    first = findings.nodes[0]
    error = replace(first, card=replace(first.card, feature=Feature(first.site, ERROR), promotes=(), suppresses=()))
    return replace(findings, nodes=(error, *findings.nodes[1:]), edges=())


def test_an_error_node_has_another_shape_than_latents(findings):
    drawing = layout.circuit_layout(with_error(findings))
    assert [pill.node for pill in drawing.pills if pill.is_error] == [0]
    shapes = {patch.get_gid(): patch for patch in circuit_map(with_error(findings)).axes[0].patches}
    hexagon = shapes.pop("node-0")
    assert isinstance(hexagon, Polygon)
    corners = {tuple(corner) for corner in hexagon.get_xy()}
    (pill,) = (pill for pill in drawing.pills if pill.is_error)
    assert len(corners) == 6
    # It fills the place of a pill, and its ends are points.
    assert (min(corners), max(corners)) == (
        (pill.x, pill.y + layout.PILL / 2),
        (pill.x + pill.width, pill.y + layout.PILL / 2),
    )
    assert {y for _, y in corners} == {pill.y, pill.y + layout.PILL / 2, pill.y + layout.PILL}
    latents = [patch for name, patch in shapes.items() if (name or "").startswith("node-")]
    assert len(latents) == len(drawing.pills) - 1
    assert all(isinstance(patch, FancyBboxPatch) for patch in latents)


def test_the_legend_names_error_nodes_where_there_is_one(findings):
    bare, errors = replace(findings, edges=()), with_error(findings)
    assert "error node" not in [said for said, _ in drawn_texts(circuit_map(bare))]
    assert "legend-error" not in [patch.get_gid() for patch in circuit_map(bare).axes[0].patches]
    figure = circuit_map(errors)
    texts = drawn_texts(figure)
    (key,) = (patch for patch in figure.axes[0].patches if patch.get_gid() == "legend-error")
    (own,) = (box for said, box in texts if said == "error node")
    assert not [said for said, box in texts if box.overlaps(key.get_window_extent())]
    assert not [said for said, box in texts if said != "error node" and box.overlaps(own)]
    assert 0 <= key.get_window_extent().x0 < key.get_window_extent().x1 < own.x0
    assert figure.get_size_inches()[0] == circuit_map(bare).get_size_inches()[0]


def test_the_strongest_edges_between_drawn_nodes_lie_beneath_the_pills(findings):
    drawing = layout.circuit_layout(findings)
    pills = {str(findings.nodes[pill.node].node): pill for pill in drawing.pills}
    among = [
        edge
        for edge in edges_between(findings)
        if str(edge.source) in pills and (isinstance(edge.target, str) or str(edge.target) in pills)
    ]
    expected = among[: layout.EDGES][::-1]
    assert 0 < len(expected) == len(drawing.links)
    for edge, link in zip(expected, drawing.links, strict=True):
        source = pills[str(edge.source)]
        assert (link.x0, link.y0) == (source.x + source.width / 2, source.y)
        target = (
            drawing.metric[:2]
            if isinstance(edge.target, str)
            else (pills[str(edge.target)].x, pills[str(edge.target)].y)
        )
        assert link.y1 == target[1] + layout.PILL
        assert link.raises == (edge.weight > 0)
        assert link.share == pytest.approx(abs(edge.influence) / abs(edges_between(findings)[0].influence))
    patches = circuit_map(findings).axes[0].patches
    lines = [patch for patch in patches if patch.get_gid() == "edge"]
    assert len(lines) == len(drawing.links)
    lowest = min(patch.get_zorder() for patch in patches if (patch.get_gid() or "").startswith("node-"))
    assert all(line.get_zorder() < lowest for line in lines)
    widths = [line.get_linewidth() for line in lines]
    assert widths == sorted(widths)


def test_without_edges_there_is_no_metric_to_lead_to(findings):
    bare = replace(findings, edges=())
    drawing = layout.circuit_layout(bare)
    assert (drawing.metric, drawing.links) == (None, [])
    assert "edge" not in " ".join(said for _, said in drawing.notes)
    assert [patch for patch in circuit_map(bare).axes[0].patches if patch.get_gid() == "edge"] == []


def test_words_that_no_font_can_draw_are_no_label_of_the_figure(findings):
    node = findings.nodes[0]
    card = replace(node.card, promotes=((" 仨", 1.0), (" are", 0.9), (" 纷", 0.8)), explanation=None)
    named = replace(node, card=card)
    assert layout._label(named, 20) == "are", "an escape says less than no word"
    assert layout._label(replace(named, card=replace(card, promotes=((" 仨", 1.0),))), 20) == named.name
