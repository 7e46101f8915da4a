"""The page of relations: safe and self-contained, and in a browser what is drawn is what the data say."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from planted_relations import given, planted
from scipy import sparse

from gossamer.features.feature_card import FeatureExample
from gossamer.relations import (
    AblationCheck,
    LatentFacts,
    PromptActivations,
    RelationGraph,
    RelationsData,
    adjacent,
    find_communities,
    find_gates,
    lifecycles_of,
    read_node_link,
    relate,
    relations_data,
)
from gossamer.relations.causal import RankAgreement
from gossamer.report import relations_page, write_relations_page

NAMES = ("resid_post.0", "resid_post.1", "resid_post.2")
HOSTILE = ("</script><script>window.hurt = 1</script>", "<img src=x onerror='window.hurt = 1'>", "\u202e&amp;", "\n")


@pytest.fixture(scope="module")
def study():
    up, down = planted(rows=200)
    up[..., 8] = 0
    dense = dict(zip(NAMES, (up, down, down[..., ::-1].copy()), strict=True))
    stream = given(dense)
    return dense, stream, relate(stream, adjacent(NAMES))


def prompt(dense, row, text="a prompt"):
    latents = {name: sparse.csr_matrix(one[row]) for name, one in dense.items()}
    return PromptActivations(text, tuple(f" t{at}" for at in range(10)), (False, *[True] * 9), latents)


@pytest.fixture(scope="module")
def data(study) -> RelationsData:
    dense, stream, relations = study
    listed = list(relations.values())
    pair = next(iter(relations))
    graph = RelationGraph.of(listed, "jaccard", 0.3)
    draw = np.random.default_rng(0)
    checked = relations[pair].kept[np.arange(20)]
    bins = RankAgreement(
        "jaccard",
        20,
        0.5,
        0.25,
        0.75,
        (0.0, 0.5, 1.0),
        (18, 2),
        (0.1, 0.4),
        (0.0, 0.3),
        ((0.0, 0.2), (0.2, 0.5)),
        (0.5, 0.0),
    )
    check = AblationCheck(
        checked, draw.random(20), draw.random(20), np.ones(20, np.int64), {"jaccard": np.arange(20)}, {"jaccard": bins}
    )
    example = FeatureExample((" a", " big", " dog"), (0.0, 0.1, 2.0), 2, 0)

    def describe(name, latents):
        return {one: LatentFacts((f" w{one}", " same"), "a dog", "https://x.org/1", (example,)) for one in latents}

    return relations_data(
        listed,
        model="m",
        lifecycles=lifecycles_of(listed),
        gates={pair: find_gates(stream, one) for pair, one in relations.items()},
        graph=graph,
        communities=[find_communities(graph)],
        checks={pair: check},
        prompts=[prompt(dense, 7), prompt(dense, 11, "another")],
        describe=describe,
    )


def hostile(data: RelationsData) -> RelationsData:
    facts = LatentFacts(
        HOSTILE, HOSTILE[1], "javascript:window.hurt = 1//", (FeatureExample(HOSTILE, (1.0,) * 4, 1, 0),)
    )
    first = replace(data.prompts[0], text=HOSTILE[0], tokens=(*HOSTILE, *data.prompts[0].tokens[4:]))
    listed = tuple(replace(one, words=HOSTILE) for one in data.communities[0].labels)
    return replace(
        data,
        model="<b>m</b>",
        text=HOSTILE[0],
        prompts=(first,),
        communities=(replace(data.communities[0], labels=listed),),
        latents={name: dict.fromkeys(own, facts) for name, own in data.latents.items()},
    )


@pytest.fixture
def visit(open_page, data, tmp_path):
    """Open a page made of some data."""

    def visit(shown: RelationsData = data, **how):
        return open_page(write_relations_page(shown, tmp_path / f"{len(list(tmp_path.iterdir()))}.html"), **how)

    return visit


def saved(page, button: str, path):
    with page.expect_download() as got:
        page.click(button)
    got.value.save_as(path)
    return path


def test_nothing_is_fetched_and_the_record_is_inside(data, tmp_path):
    html = write_relations_page(data, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in html
    assert "src=" not in html
    held = html.partition('id="data">')[2].partition("</script>")[0]
    (tmp_path / "held.json").write_text(held)
    assert RelationsData.load(tmp_path / "held.json") == data
    assert relations_page(data) == html


def test_hostile_text_does_not_end_the_script(data):
    html = relations_page(hostile(data))
    assert html.count("</script>") == 3
    assert "<img" not in html
    assert "<b>m" not in html


def test_hostile_text_is_shown_as_text(data, visit):
    page = visit(hostile(data))
    page.locator(".node").first.click()
    assert "\\u202e" in page.inner_text("#panel")
    page.click("#communities-twin tbody button")
    assert page.evaluate("window.hurt") is None
    assert page.locator("img, #panel a").count() == 0


def test_the_sankey_labels_stand_at_the_bar_that_they_are_of(data, visit):
    """What is gone is right of the bar that it leaves, what is new left of the bar that it enters."""
    page = visit()
    page.select_option("#lifecycle-measure", "jaccard")
    first = next(one for one in data.lifecycles if (one.measure, one.threshold) == ("jaccard", 0.5))
    for judged in (False, True):
        page.set_checked("#lifecycle-judged", judged)
        bars = page.eval_on_selector_all(
            "#sankeys rect.ink",
            "all => all.map(one => [Number(one.getAttribute('x')), Number(one.getAttribute('height'))])",
        )
        labels = page.eval_on_selector_all(
            "#sankeys text[text-anchor='start'], #sankeys text[text-anchor='end']",
            "all => all.map(one => [Number(one.getAttribute('x')), one.firstChild.textContent, one.textContent])",
        )
        gone, new = first.ahead["gone"], first.behind["new"]
        totals = [
            sum(counts.values()) - judged * (counts["dead"] + counts["too rare to judge"])
            for counts in (first.ahead, first.behind)
        ]
        (x, _, said), *_ = [
            one for one in labels if f"{NAMES[0]}: {gone} of {totals[0]}" in one[2] and " gone " in one[2]
        ]
        assert bars[0][0] < x < (bars[0][0] + bars[1][0]) / 2
        assert f"{100 * gone / totals[0]:.0f}" in said
        (x, _, said), *_ = [
            one for one in labels if f"{NAMES[1]}: {new} of {totals[1]}" in one[2] and " new " in one[2]
        ]
        assert (bars[0][0] + bars[1][0]) / 2 < x < bars[1][0]
        assert bars[0][1] / bars[1][1] == pytest.approx(totals[0] / totals[1], rel=1e-3)
    assert "judged" in said


def test_every_view_says_in_a_table_what_it_draws(data, visit, tmp_path):
    page = visit()
    for view in ("lifecycle", "sweep", "nodes", "edges", "effects"):
        page.click(f"#{view}-twin summary")
    expected = {
        "lifecycle": 2 * (4 + 4), "sweep": 2 * 2 * 100, "gates": sum(one.found for one in data.gates),
        "communities": len(data.communities[0].labels), "nodes": page.locator(".node").count(),
        "edges": page.locator(".edge").count(), "effects": 2,
    }  # fmt: skip
    for view, rows in expected.items():
        path = saved(page, f"#{view}-twin button[data-save='csv']", tmp_path / f"{view}.csv")
        with path.open(newline="", encoding="utf-8") as opened:
            assert len(list(csv.DictReader(opened))) == rows
        assert page.locator(f"#{view}-twin tbody tr:not(.truth tr)").count() == min(rows, 100)
    # A browser drops downloads beyond ten a second.
    listed = json.loads(saved(page, "#effects-twin button[data-save='json']", tmp_path / "effects.json").read_text())
    assert [row["pairs"] for row in listed] == [18, 2]
    whole = RelationsData.load(saved(page, "#save-all", tmp_path / "all.json"))
    assert whole == data


def test_gates_are_sorted_and_found_by_word(data, visit):
    page = visit()
    gates = [gate for pair in data.gates for gate in pair.gates]
    gains = page.eval_on_selector_all(
        "#gates-twin > div > .tall > table > tbody > tr", "all => all.map(one => one.cells[3].innerText)"
    )
    assert len(gains) == len(gates)
    assert list(map(float, gains)) == sorted(map(float, gains), reverse=True)
    best = max(gates, key=lambda one: one.gain)
    cells = page.eval_on_selector_all(
        "#gates-twin .truth >> nth=0 >> tr", "all => all.map(one => one.cells[one.cells.length - 1].innerText)"
    )
    assert [cell.replace(",", "") for cell in cells] == [f"{on} of {off + on}" for off, on in best.table.counts]
    page.fill("#gate-find", "w7")
    kept = [one for one in gates if any(latent == 7 for latent in (*one.inputs, one.output))]
    assert page.locator("#gates-twin .inputs").count() == len(kept) == 1


def positions(page):
    return page.eval_on_selector_all(
        ".node",
        "all => all.map(one => [one.dataset.node, ...one.getAttribute('transform').match(/[\\d.]+/g)].map(Number))",
    )


def test_the_graph_is_what_the_prompt_lights_up_and_its_strongest_lines_are_vertical(data, visit):
    page, graph = visit(), data.graph
    page.select_option("#measure", label="jaccard")
    for token, least, lonely in ((9, 0, True), (4, 300, False)):
        page.click(f"#tokens button >> nth={token}")
        page.set_checked("#lonely", lonely)
        page.evaluate(
            "n => { const s = document.getElementById('least'); s.value = n; s.dispatchEvent(new Event('input')); }",
            least,
        )
        facts = data.prompts[0]
        lit = {node for node, at in zip(facts.node.tolist(), facts.position.tolist(), strict=True) if at == token}
        values = graph.values["jaccard"].values
        above = {
            (head, tail): float(values[edge])
            for edge, (head, tail) in enumerate(zip(graph.head.tolist(), graph.tail.tolist(), strict=True))
            if head in lit and tail in lit and values[edge] >= least / 1000 * values.max()
        }
        joined = {node for pair in above for node in pair}
        spots = {node: (x, y) for node, x, y in positions(page)}
        assert set(spots) == (lit if lonely else joined)
        assert page.locator(".edge").count() == len(above)
        assert len(set(spots.values())) == len(spots)
        # Layer 0 at the bottom.
        rows = {graph.dictionary.tolist()[node]: y for node, (_, y) in spots.items()}
        assert sorted(rows, key=rows.get, reverse=True) == sorted(rows)
        # An edge that is the strongest of both its ends is vertical, and passes no other latent.
        for (head, tail), value in above.items():
            others = [other for pair, other in above.items() if pair != (head, tail) and {head, tail} & set(pair)]
            if all(other < value for other in others):
                assert spots[head][0] == spots[tail][0]
        for head, tail in above:
            if spots[head][0] == spots[tail][0]:
                low, high = sorted((spots[head][1], spots[tail][1]))
                assert not [y for x, y in spots.values() if x == spots[head][0] and low < y < high]
        said = page.inner_text("#graph-counts")
        assert f"{len(spots)} latent" in said
        assert f"{len(above)} line" in said
        assert f"{len(lit) - len(spots)} lit latent" in said


def test_a_latent_by_keys_and_its_edges_in_numbers(data, visit, tmp_path):
    page, graph = visit(), data.graph
    page.select_option("#measure", label="sufficiency")
    page.evaluate(
        "() => { const s = document.getElementById('least'); s.value = 0; s.dispatchEvent(new Event('input')); }"
    )
    assert page.locator(".node[tabindex='0']").count() == 1
    page.focus(".node[tabindex='0']")
    page.keyboard.press("Enter")
    assert "pinned" in page.inner_text("#panel h3")
    node = int(page.evaluate("document.activeElement.dataset.node"))
    name, latent = NAMES[graph.dictionary.tolist()[node]], graph.latent.tolist()[node]
    text = page.inner_text("#panel")
    assert f"{name}/{latent}" in text
    assert f"w{latent}" in text
    assert "A dog" in text
    assert page.inner_text("#panel mark") == " dog"
    assert page.get_attribute("#panel a", "href") == "https://x.org/1"
    cells = page.eval_on_selector_all(
        "#connected tbody tr",
        "all => all.map(row => [Number(row.dataset.node), ...[...row.cells].slice(1).map(c => c.innerText)])",
    )
    assert cells
    for other, shown, *counts in cells:
        ends = [(node, other), (other, node)]
        edge = next(
            at for at, pair in enumerate(zip(graph.head.tolist(), graph.tail.tolist(), strict=True)) if pair in ends
        )
        assert [int(count.replace(",", "")) for count in counts] == [
            getattr(graph, one).tolist()[edge] for one in ("c", "n", "m")
        ]
        low, high = (side.tolist()[edge] for side in graph.intervals["sufficiency"])
        assert shown.split() == [f"{graph.values['sufficiency'].tolist()[edge]:.3f}", f"[{low:.3f},", f"{high:.3f}]"]
    # The strongest line upwards leads where the arrow goes.
    page.keyboard.press("ArrowUp")
    assert int(page.evaluate("document.activeElement.dataset.node")) != node
    page.keyboard.press("Escape")
    assert page.locator(".node[aria-pressed='true']").count() == 0
    page.hover(".edge .grip >> nth=0", force=True)
    assert "c = " in page.inner_text("#tip")
    page.select_option("#prompt", "1")
    assert page.get_attribute("#tokens button >> nth=9", "aria-pressed") == "true"
    read = read_node_link(saved(page, "#save-graph", tmp_path / "graph.json"))
    assert (len(read), len(read.heads)) == (page.locator(".node").count(), page.locator(".edge").count())
    assert read.measure == "sufficiency"


def test_what_is_not_there_has_a_line_that_says_so(study, visit):
    bare = relations_data(list(study[2].values()), model="m")
    page = visit(bare)
    for view in ("lifecycle", "gates", "communities", "prompts", "effects"):
        assert page.is_visible(f"#{view}-none")
        assert not page.is_visible(f"#{view}-view")
    assert "not looked for" in page.inner_text("#gates-none")
    looked = visit(replace(bare, gates=()))
    assert "No gate was found" in looked.inner_text("#gates-none")


@pytest.mark.parametrize("width", [420, 1280])
def test_nothing_is_wider_than_the_window(visit, width):
    page = visit(viewport={"width": width, "height": 800})
    page.click("#communities-twin tbody button")
    page.locator(".node").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
