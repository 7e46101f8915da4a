import pytest
from planted_relations import given, planted

from gossamer.errors import GossamerError
from gossamer.features import FeatureCard, Histogram
from gossamer.relations import LifecycleSettings, SankeyData, adjacent, find_gates, lifecycle, relate
from gossamer.report import style
from gossamer.report.figures.relations import relation_sankey, relation_sweep
from gossamer.report.relations import gates_table, lifecycle_table, write_lifecycle


@pytest.fixture(scope="module")
def study():
    up, down = planted()
    up[..., 8] = 0
    stream = given({"resid_post.0": up, "resid_post.1": down, "resid_post.2": down[..., ::-1].copy()})
    relations = relate(stream, adjacent(stream.widths))
    return stream, relations, [lifecycle(one, LifecycleSettings("jaccard", 0.45)) for one in relations.values()]


def test_tables_and_pictures_of_a_study(study, tmp_path):
    stream, relations, chain = study
    named = {str(pair): one for pair, one in relations.items()}
    write_lifecycle(named, chain, tmp_path, ["jaccard", "pearson"])
    assert {path.name for path in tmp_path.iterdir()} == {
        "lifecycle.md", "sankey.png", "sankey.svg", "sweep.png", "sweep.svg"
    }  # fmt: skip
    lines = lifecycle_table(chain).splitlines()
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [
        "resid_post.0>resid_post.1", "upstream", "passed on", "5", "20.8%", "21.7%"
    ]  # fmt: skip
    gates = gates_table(find_gates(stream, next(iter(relations.values()))))
    assert "AND" in gates
    assert "11: 3" in gates


def test_gates_say_what_latents_are_where_something_knows(study):
    class Source:
        text = "some text"

        def cards(self, features):
            empty = (1.0, 0.0, 1.0, Histogram((), ()))
            return {one: FeatureCard(one, "m", 9, 1, *empty, explanation=f"the {one}|") for one in features}

    stream, relations, _ = study
    pair, relation = next(iter(relations.items()))
    gates = find_gates(stream, relation)
    lines = gates_table(gates, pair, Source()).splitlines()
    assert len(lines) == 2 + len(gates) > 2
    for gate, line in zip(gates, lines[2:], strict=True):
        inputs = "; ".join(f"{one}: the resid_post.0/{one}\\|" for one in gate.inputs)
        assert line.endswith(f"| {inputs} → {gate.output}: the resid_post.1/{gate.output}\\| |")


def test_labels_of_the_sankey_stand_at_the_bar_that_they_are_of(study):
    """What is new downstream stands left of the second bar, what is gone upstream right of the first."""
    chain = study[2]
    from gossamer.relations import sankey

    figure = relation_sankey(sankey(chain))
    found = {(round(text.get_position()[0], 2), text.get_text()) for text in figure.axes[0].texts}
    gone, new = chain[0].shares("upstream", judged=True)["gone"], chain[0].shares("downstream", judged=True)["new"]
    lost = chain[0].shares("downstream", judged=True)["passed on"]
    right, left = {text for x, text in found if 0 < x < 0.2}, {text for x, text in found if 0.8 < x < 1}
    assert f"{gone:.0%}" in right
    assert {f"{new:.0%}", f"{lost:.0%}"} <= left
    assert style.svg(style.settled(figure)) == style.svg(figure)


def test_nothing_to_draw_is_refused():
    with pytest.raises(GossamerError, match="at least one pair"):
        relation_sankey(SankeyData(("a",), (3,)))
    with pytest.raises(GossamerError, match="the same measures"):
        relation_sweep({})
