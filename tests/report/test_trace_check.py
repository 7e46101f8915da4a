"""The picture of a trace's check draws every edge where it was measured."""

import pytest

from gossamer.attention.check import Agreement, EdgeCheck, TraceCheck
from gossamer.attention.source import Source
from gossamer.attention.trace import Trace, TraceNode
from gossamer.attention.tracing import TraceResult
from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.report import style, trace_check


@pytest.fixture
def result():
    edges = tuple(EdgeCheck(number, 2.0 / number, 1.9 / number, -1.0 / number) for number in range(1, 9))
    nodes = [TraceNode(Source("root", None, None, None), None, 2.0)]
    nodes += [TraceNode(Source("latent", Site("z", 1), number, number), 0, 2.0 / number) for number in range(1, 9)]
    check = TraceCheck(edges, Agreement(0.9, 0.8, 1.0, 8), Agreement(0.5, -0.1, 0.8, 8, texts=5))
    return TraceResult("model", tuple(f" word{number}" for number in range(9)), 1, Trace("t", tuple(nodes)), check)


def test_both_panels_hold_all_edges(result):
    held, live = trace_check(result).axes
    for axes, name in ((held, "frozen"), (live, "live")):
        (dots,) = [one for one in axes.collections if one.get_gid() == "edges"]
        expected = [(edge.predicted, getattr(edge, name)) for edge in result.check.edges]
        assert [tuple(pair) for pair in dots.get_offsets()] == expected
        low, high = axes.get_ylim()
        assert all(low < y < high for _, y in expected)
    texts = [[text.get_text() for text in axes.texts] for axes in (held, live)]
    assert "rank correlation 0.90\n[0.80, 1.00] over edges of one prompt\n8 edges" in texts[0]
    assert "rank correlation 0.50\n[-0.10, 0.80] over 5 texts\n8 edges" in texts[1]
    assert "z.1/1@1 word1" in texts[0]


def test_pictures_are_png_or_svg(result, tmp_path):
    figure = trace_check(result)
    style.save(figure, tmp_path / "a.PNG")
    assert (tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG")
    style.save(figure, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    with pytest.raises(UsageError, match=r"a\.gif: a picture's path with one of the endings \.png, \.svg expected"):
        style.save(figure, tmp_path / "a.gif")
    unchecked = TraceResult("model", (), 1, result.trace)
    with pytest.raises(UsageError, match="edges were checked expected"):
        trace_check(unchecked)
