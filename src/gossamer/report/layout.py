"""Where everything of the circuit's figure goes.

Sites are rows, bottom to top in model order; roles are columns over the example prompt's tokens, neighbouring roles
without nodes as one. Lengths are pixels of which POINTS make a point, y grows downwards. A cell shows its strongest
nodes and counts the rest; of the edges between what is shown, and from it to the metric, the strongest are drawn.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from gossamer.circuits.edge import Edge
from gossamer.circuits.results import Findings, NodeCard, PromptView
from gossamer.display import cut, plural
from gossamer.errors import GossamerError
from gossamer.model.site import Site
from gossamer.report import style, text
from gossamer.report.edges import edges_between
from gossamer.report.edges import strength as strength_of_edge

CELL = 6.35  # width of one monospaced cell at FONT
FONT, LINE = 10.5, 16.0
POINTS = 0.66  # points a pixel: in the figure, the drawing's letters become 7 pt
PILL, GAP, PAD = 17.0, 3.0, 6.0
SLOTS = 4  # rows of pills in a cell
TOKEN_LINES, TOKEN_CELLS = 4, 12
WIDEST = style.PAGE * 72 / POINTS  # both columns of a paper, in which letters keep their 7 pt
# Cells of the words in a pill, and pills abreast at most: the first that fits the width.
LABELS = ((14, 3), (11, 3), (14, 2), (11, 2), (14, 1), (8, 3), (11, 1), (8, 2), (8, 1), (6, 1))
EDGES, LANE = 32, 22.0  # how many edges are drawn, and the room for them above every row
METRIC_CELLS = 26

Cells = dict[tuple[Site, str], list[int]]  # numbers of the nodes at a site and a role, the strongest first

LEGEND = "lowers faithfulness when removed    ▲ writes towards the answer  ▼ away"
MORE = "    +n  more nodes"
LEGEND_AT, LETTER = 134.0, 5.3  # where the legend's words begin, right of `left`, and width of a letter (proportional)


@dataclass(frozen=True)
class Pill:
    """One node. `arrow` is the sign of what it writes towards the answer by itself; an error node has pointed ends."""

    x: float
    y: float
    width: float
    label: str
    node: int
    fill: str
    stroke: str
    ink: str
    arrow: int
    is_error: bool


@dataclass(frozen=True)
class Link:
    """One edge, from the top of its source up to the bottom of its target; `share` is its size over the largest's."""

    x0: float
    y0: float
    x1: float
    y1: float
    raises: bool
    share: float


@dataclass(frozen=True)
class More:
    """How many nodes of a cell are not drawn."""

    x: float
    y: float
    width: float
    count: int
    site: str
    role: str


@dataclass(frozen=True)
class Chip:
    """One token beneath its column; kind is "token", "passed" or "counterfactual"."""

    x: float
    y: float
    width: float
    label: str
    kind: str


@dataclass(frozen=True)
class LayoutColumn:
    """One role, several neighbouring roles without nodes, or (passed) the tokens that no circuit touches."""

    roles: tuple[str, ...]
    x: float
    width: float
    label: str
    passed: bool
    per_line: int


@dataclass(frozen=True)
class LayoutRow:
    """One site."""

    site: str
    y: float
    height: float


@dataclass
class CircuitLayout:
    """The drawing.

    `bottom` is where the grid ends and the prompt begins; `notes` are lines under the prompt; `metric` is the box that
    edges lead to: x, y, width and what it says.
    """

    width: float
    left: float
    columns: tuple[LayoutColumn, ...]
    rows: tuple[LayoutRow, ...] = ()
    pills: list[Pill] = field(default_factory=list)
    more: list[More] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    metric: tuple[float, float, float, str] | None = None
    chips: list[Chip] = field(default_factory=list)
    notes: list[tuple[float, str]] = field(default_factory=list)
    bottom: float = 0.0
    counterfactual_y: float | None = None
    height: float = 0.0

    @property
    def legend(self) -> str:
        """What colours and signs mean."""
        return LEGEND + (MORE if self.more else "")

    @property
    def has_errors(self) -> bool:
        """Whether an error node is drawn, so that the legend must say what its shape means."""
        return any(pill.is_error for pill in self.pills)


def strength(node: NodeCard) -> tuple[float, float]:
    """How much a node matters, for ordering: |effect|, then |direct|; unknown values count as nothing."""
    return (_known(abs(node.effect)), _known(abs(node.direct)))


def by_strength(nodes: Sequence[NodeCard]) -> list[int]:
    """Indices of nodes, strongest first; ties by place in the model."""
    return sorted(range(len(nodes)), key=lambda i: (*(-part for part in strength(nodes[i])), i))


def circuit_layout(findings: Findings) -> CircuitLayout:
    """Lay the circuit out.

    Raises:
        GossamerError: a node at a site or role that is not an axis, or a prompt with more or fewer roles than tokens.
    """
    cells = _cells(findings)
    columns, width, letters = _columns(findings, cells)
    left = columns[0].x if columns else 80.0
    end = columns[-1].x + columns[-1].width if columns else left
    drawing = CircuitLayout(width=end + 2, left=left, columns=columns)
    between = edges_between(findings)
    if between:
        says = cut(text.visible(findings.metric), METRIC_CELLS)
        wide = text.cells(says) * CELL + 12
        drawing.metric = (max(left, end - wide - PAD), 4.0, wide, says)
    _fill_grid(drawing, findings, cells, width, letters)
    _link(drawing, findings, between)
    legend = max(LETTER * len(drawing.legend), style.width(drawing.legend, style.SMALL, "normal") * 72 / POINTS)
    drawing.width = max(drawing.width, left + LEGEND_AT + legend + 4)
    _write_prompt(drawing, findings.prompt)
    if between:
        count = f"{len(drawing.links)} of {plural(len(between), 'edge')}"
        said = f"{count}, the strongest among these nodes; blue raises its target, orange lowers it"
        drawing.notes.append((drawing.height + 4, said))
        drawing.height += 14
    # The figure's letters are up to a twentieth wider: they are drawn on whole pixels.
    widest = max((text.cells(note) for _, note in drawing.notes), default=0)
    drawing.width = max(drawing.width, left + 1.05 * CELL * widest + 4)
    return drawing


def aligned(prompt: PromptView) -> bool:
    """Whether clean and counterfactual tokens can be compared one by one."""
    return len(prompt.tokens) == len(prompt.counterfactual)


def _known(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def require_axes(findings: Findings) -> None:
    """Raises :class:`GossamerError`: a prompt with more or fewer roles than tokens, or a node off the axes."""
    prompt = findings.prompt
    if len(prompt.tokens) != len(prompt.roles):
        raise GossamerError(
            f"example prompt: expected a role (or None) for each of its {len(prompt.tokens)} tokens, "
            f"found {len(prompt.roles)}; rebuild the findings"
        )
    for node in findings.nodes:
        if node.site not in findings.sites or node.role not in findings.roles:
            raise GossamerError(
                f"node {node.node}: expected a site of {', '.join(map(str, findings.sites))} and a role of "
                f"{', '.join(findings.roles)}; add it to the axes or leave the node out"
            )


def _cells(findings: Findings) -> Cells:
    require_axes(findings)
    cells: Cells = {}
    for index in by_strength(findings.nodes):
        node = findings.nodes[index]
        cells.setdefault((node.site, node.role), []).append(index)
    return cells


def _grouped(findings: Findings, cells: Cells) -> Iterator[tuple[str, ...]]:
    busy = {role for _, role in cells}
    for is_busy, group in groupby(findings.roles, key=lambda role: role in busy):
        roles = tuple(group)
        yield from ((role,) for role in roles) if is_busy else [roles]


def _columns(findings: Findings, cells: Cells) -> tuple[tuple[LayoutColumn, ...], float, int]:
    """The columns, the width of a pill, and the cells of its words: the widest drawing that fits."""
    left = max([len(str(site)) for site in findings.sites] + [len("counterfactual")]) * CELL + 14
    for letters, most in LABELS:
        longest = max((text.cells(_label(node, letters)) for node in findings.nodes), default=4)
        pill = longest * CELL + 22
        columns = _placed(findings, cells, pill, left, most)
        if not columns or columns[-1].x + columns[-1].width <= WIDEST:
            break
    return columns, pill, letters


def _label(node: NodeCard, letters: int) -> str:
    """Words in place of the latent's number, as many as fit: what it is said to be, else those of its card."""
    if node.node.is_error or not node.card.label:
        return node.name
    # Words that no font of the figures can draw would be escapes, which say less than the number.
    words = [word for word in map(text.visible, node.card.label.split(", ")) if style.drawable(word) == word]
    if not words:
        return node.name
    said = words[0]
    for word in words[1:]:
        if text.cells(f"{said} {word}") <= letters:
            said = f"{said} {word}"
    while text.cells(said) > letters:
        said = said.removesuffix("…")[:-1].rstrip() + "…"
    return said


def _link(drawing: CircuitLayout, findings: Findings, between: Sequence[Edge]) -> None:
    """The strongest edges between pills that are drawn, and to the metric; the weakest of them first."""
    pills = {findings.nodes[pill.node].node: pill for pill in drawing.pills}
    largest = max(map(strength_of_edge, between), default=0.0) or 1.0
    for edge in between:
        source = pills.get(edge.source)
        box = drawing.metric if isinstance(edge.target, str) else _box(pills.get(edge.target))
        if source is not None and box is not None and len(drawing.links) < EDGES:
            x, y, width = box[:3]
            ends = source.x + source.width / 2, source.y, x + width / 2, y + PILL
            drawing.links.append(Link(*ends, edge.weight > 0, strength_of_edge(edge) / largest))
    drawing.links.reverse()


def _box(pill: Pill | None) -> tuple[float, float, float] | None:
    return None if pill is None else (pill.x, pill.y, pill.width)


def _placed(findings: Findings, cells: Cells, pill: float, left: float, most: int) -> tuple[LayoutColumn, ...]:
    placed: list[LayoutColumn] = []
    x = left
    passed = any(role is None for role in findings.prompt.roles)
    for roles in ([()] if passed else []) + list(_grouped(findings, cells)):
        crowd = max((len(cells.get((site, role), ())) for site in findings.sites for role in roles), default=0)
        per_line = min(most, max(1, math.ceil(crowd / SLOTS), 2 if crowd > 2 else 1))
        label = f"{roles[0]} … {roles[-1]}" if len(roles) > 1 else (roles or ("passed",))[0]
        pills = per_line * (pill + GAP) - GAP if crowd else 0.0
        width = max(pills, _written(findings.prompt, roles), len(label) * 6.4, 24.0) + 2 * PAD
        placed.append(LayoutColumn(roles, x, width, label, not roles, per_line))
        x += width
    return tuple(placed)


def _written(prompt: PromptView, roles: tuple[str, ...]) -> float:
    """Width for a column's tokens: the longest one fits, and all of them in the lines there are unless too many."""
    shown = _tokens(prompt, roles) + (_changed(prompt, roles) if aligned(prompt) else [])
    widths = [text.cells(text.visible(token, TOKEN_CELLS)) * CELL + 4 for token in shown]
    return max(max(widths, default=0.0), min(1.25 * sum(widths) / TOKEN_LINES, 110.0))


def _tokens(prompt: PromptView, roles: tuple[str, ...]) -> list[str]:
    return [token for token, role in zip(prompt.tokens, prompt.roles, strict=True) if (role or "") in (roles or ("",))]


def _changed(prompt: PromptView, roles: tuple[str, ...]) -> list[str]:
    triples = zip(prompt.tokens, prompt.counterfactual, prompt.roles, strict=True)
    return [other for token, other, role in triples if role in roles and token != other]


def _fill_grid(drawing: CircuitLayout, findings: Findings, cells: Cells, width: float, letters: int) -> None:
    largest = max((_known(abs(node.effect)) for node in findings.nodes), default=0.0) or 1.0
    lane = LANE if drawing.metric else 0.0
    y, rows = 4.0 + (PILL + GAP if drawing.metric else 0.0), []
    for site in reversed(findings.sites):
        lines, top = 1, y + lane
        for column in drawing.columns:
            for role in column.roles:
                inside = cells.get((site, role), [])
                slots = column.per_line * SLOTS
                shown = inside if len(inside) <= slots else inside[: slots - 1]
                lines = max(lines, math.ceil(min(len(inside), slots) / column.per_line))
                places = [_place(column, top, width, k, min(len(inside), column.per_line)) for k in range(slots)]
                drawing.pills += [
                    _pill(findings, i, at, width, largest, letters) for i, at in zip(shown, places, strict=False)
                ]
                if len(inside) > len(shown):
                    drawing.more.append(More(*places[len(shown)], width, len(inside) - len(shown), str(site), role))
        rows.append(LayoutRow(str(site), y, lane + lines * (PILL + GAP) - GAP + 2 * PAD))
        y += rows[-1].height
    drawing.rows, drawing.bottom = tuple(rows), y


def _place(column: LayoutColumn, top: float, width: float, k: int, abreast: int) -> tuple[float, float]:
    block = abreast * (width + GAP) - GAP
    start = column.x + (column.width - block) / 2
    return start + (k % column.per_line) * (width + GAP), top + PAD + (k // column.per_line) * (PILL + GAP)


def _pill(findings: Findings, index: int, at: tuple[float, float], width: float, largest: float, letters: int) -> Pill:
    node = findings.nodes[index]
    hue = style.OURS if node.effect >= 0 else style.AGAINST
    # Square root: effects fall off steeply, and the second half of the nodes must not all look white.
    share = 0.06 + 0.94 * math.sqrt(_known(abs(node.effect)) / largest)
    unknown = not math.isfinite(node.effect)
    return Pill(
        *at,
        width,
        _label(node, letters),
        index,
        style.PAPER if unknown else style.mix(style.PAPER, hue, share),
        style.FAINT if unknown else style.mix(style.PAPER, hue, 0.35 + 0.65 * share),
        style.PAPER if share > 0.6 and not unknown else style.INK,
        0 if not _known(node.direct) else 1 if node.direct > 0 else -1,
        node.node.is_error,
    )


def _write_prompt(drawing: CircuitLayout, prompt: PromptView) -> None:
    y = drawing.bottom + 30
    lowest = y
    for column in drawing.columns:
        kind = "passed" if column.passed else "token"
        lowest = max(lowest, _write(drawing, column, y, _tokens(prompt, column.roles), kind))
    if aligned(prompt):
        changed = {column: _changed(prompt, column.roles) for column in drawing.columns}
        if any(changed.values()):
            drawing.counterfactual_y = y = lowest + 4
            for column, tokens in changed.items():
                lowest = max(lowest, _write(drawing, column, y, tokens, "counterfactual"))
    else:
        drawing.notes += _sentence(drawing, lowest + 10, "counterfactual", prompt.counterfactual)
        lowest = drawing.notes[-1][0]
    answer = f"answer {text.visible(prompt.answer, 24)}   wrong answer {text.visible(prompt.incorrect, 24)}"
    drawing.notes.append((lowest + 16, answer))
    drawing.height = lowest + 24


def _write(drawing: CircuitLayout, column: LayoutColumn, top: float, tokens: list[str], kind: str) -> float:
    """Chips for `tokens` in centred lines within a column; returns where the next line would begin."""
    room = column.width - 2 * PAD + 1
    lines: list[list[tuple[str, float]]] = [[]]
    for token in tokens:
        label = text.visible(token, TOKEN_CELLS)
        width = text.cells(label) * CELL + 4
        if lines[-1] and sum(w + 2 for _, w in lines[-1]) + width > room:
            lines.append([])
        lines[-1].append((label, width))
    if len(lines) > TOKEN_LINES:
        lines = [*lines[: TOKEN_LINES - 1], [("…", CELL + 4)]]
    for number, line in enumerate(lines):
        x = column.x + (column.width - sum(width + 2 for _, width in line) + 2) / 2
        for label, width in line:
            drawing.chips.append(Chip(x, top + number * LINE, width, label, kind))
            x += width + 2
    return top + len(lines) * LINE if tokens else top


def _sentence(drawing: CircuitLayout, top: float, name: str, tokens: Sequence[str]) -> list[tuple[float, str]]:
    """A line of tokens under the drawing, cut to its width."""
    room = int((drawing.width - 20) / CELL)
    said = f"{name}: " + " ".join(text.visible(token, TOKEN_CELLS) for token in tokens)
    return [(top + LINE, said if len(said) <= room else said[: room - 1] + "…")]
