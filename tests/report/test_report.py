"""The page and its files: safe, self-contained, complete, the same every time."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import report_sample as sample

from gossamer.circuits.results import Findings
from gossamer.errors import GossamerError
from gossamer.report import claims, figures, page, write_report
from gossamer.results.document import digest
from gossamer.results.values import to_json

VOID = {"meta", "input", "img", "br", "link", "hr"}


class Page(HTMLParser):
    """Collects what a browser would see, and insists that every element is closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def having(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]


@pytest.fixture(scope="module")
def findings() -> Findings:
    return sample.findings()


@pytest.fixture(scope="module")
def folder(findings, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    assert write_report(findings, folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def html(folder) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def seen(html) -> Page:
    return Page(html)


def test_the_folder_holds_page_figures_and_numbers(folder):
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    names = ("budget", "circuit_map", "completeness", "curves", "edges", "stability")
    assert found == {"report.html", "findings.json"} | {f"figures/{n}.{kind}" for n in names for kind in ("png", "svg")}
    assert all(path.stat().st_size > 2000 for path in folder.rglob("*.png"))


def map_of(html: str) -> dict:
    """What the page's map is given."""
    return json.loads(re.search(r'<script type="application/json" id="map-data">(.*?)</script>', html, re.S)[1])


def test_every_node_has_a_row_a_card_and_a_place_in_the_map(findings, seen, html):
    ids = seen.having("id")
    shown = map_of(html)
    assert [node["id"] for node in shown["nodes"]] == [str(node.node) for node in findings.nodes]
    for index in range(len(findings.nodes)):
        assert f"row-{index}" in ids
        assert f"node-{index}" in ids
        assert seen.having("data-node").count(str(index)) == 2
    assert len(set(ids)) == len(ids)


def test_nothing_is_fetched_from_anywhere(findings, html, seen):
    links = {node.card.link for node in findings.nodes if node.card.link}
    for tag, attributes in seen.elements:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            address = attributes.get(name) or "#"
            allowed = address.startswith(("#", "data:image/svg+xml;base64,")) or (tag == "a" and address in links)
            assert allowed, (tag, name, address)
    assert "default-src 'none'" in html
    assert not re.search(r"@import|url\((?!#|\"#)", html)


def test_hostile_tokens_are_text_and_not_markup(seen, html):
    types = [found.get("type") for tag, found in seen.elements if tag == "script"]
    assert types == ["application/json", "module"] * 2
    assert "<script>alert(1)</script>" in seen.text
    assert "\u202e" not in html
    assert "\x07" not in html
    assert "\\u202e" in seen.text
    assert "↵" in seen.text
    assert "␣John" in seen.text


def test_hostile_names_and_links_do_no_harm():
    bad = '"><img src=x onerror=alert(1)>'
    whole = replace(sample.findings(3), stability=())
    first = whole.nodes[0]
    nodes = (replace(first, card=replace(first.card, link="javascript:alert(1)"), generic=(bad,)), *whole.nodes[1:])
    settings = {bad: bad, "a & b": "<b>"}
    seen = Page(page(replace(whole, task=bad, model=bad, warnings=(bad,), nodes=nodes, settings=settings)))
    assert not [value for value in seen.having("src") if not value.startswith("data:image/svg+xml;base64,")]
    assert not [value for value in seen.having("href") if value.startswith("javascript")]
    assert not seen.having("onerror")


def test_printed_numbers_are_those_of_the_findings(seen):
    said = re.sub(r"\s+", " ", seen.text)
    summary = "18 of 6,412 candidate nodes keep 87 % [84 %, 90 %] of the full model's logit difference"
    assert summary in said
    assert "against 91 % with every latent of the dictionaries and 2.1 % with none" in said
    assert "4.2 % of the full model's logit difference is left, 95 % interval 2.2 % to 6.0 %" in said
    assert "circuit3.40 [3.28, 3.50]" in said
    assert "1 warning" in said


def test_cases_stand_apart_beside_the_budget(findings, seen):
    said = re.sub(r"\s+", " ", seen.text)
    assert said.index("networklogit difference") < said.index("By case") < said.index("nodes for 80 %")
    assert "ABBA703.903.75 [3.59, 3.89]0.96 [0.92, 1.00]†0.08 [0.04, 0.12]0.002998 %97 %99 %" in said
    assert "BABA583.902.97 [2.78, 3.15]0.76 [0.71, 0.81]0.28 [0.24, 0.32]0.10894 %84 %99 %" in said
    one = replace(findings, cases=findings.cases[:1])
    assert "By case" not in page(one, {})
    hostile = replace(findings.cases[0], name="<b>\u202ex" + "y" * 100)
    text = Page(page(replace(findings, cases=(hostile, replace(hostile, name=""))), {})).text
    assert "<b>\\u202exyyy" in text
    assert "y" * 80 not in text
    assert "no case named" in text
    many = tuple(replace(findings.cases[0], name=f"kind {number}") for number in range(25))
    text = Page(page(replace(findings, cases=many), {})).text
    assert "kind 19" in text
    assert "kind 20" not in text
    assert "The 20 most frequent of 25 cases" in text


def test_top1_and_the_error_of_single_prompts_stand_beside_accuracy_and_faithfulness(seen):
    said = re.sub(r"\s+", " ", seen.text)
    assert "circuit3.40 [3.28, 3.50]0.87 [0.84, 0.90]0.96 [0.92, 0.98]0.17 [0.13, 0.21]96 %91 %" in said
    assert "96 %accuracytop-1 91 %; full model 99 %, top-1 99 %" in said.replace(" accuracy", "accuracy")
    assert "95 % interval 0.84 to 0.90; single prompts are off by 0.17" in said


def test_the_worst_prompts_are_shown_with_their_percentiles(findings, seen):
    for one in findings.tail.worst:
        assert one.text.replace("\n", "") in seen.text.replace("\n", "").replace("↵", "")
    assert "5 % of held-out prompts are above 1.52, 1 % above 2.31" in seen.text


def test_what_exact_errors_bring_back_is_a_table_of_sites_and_roles(findings, seen):
    titles = [
        title for title in seen.having("title") if title and title.startswith("95 % interval 0.") and "; KL" in title
    ]
    assert len(titles) == len(findings.restored) == (len(sample.SITES) + 1) * (len(sample.ROLES) + 1)
    assert "Where the dictionaries lose it" in seen.text


def test_the_core_is_named_where_samples_agree_and_where_they_do_not(findings):
    known = [node.recurrence for node in findings.nodes]
    again = sum(share >= 0.8 for share in known)
    said = f"{again} of {len(known)} nodes are in the circuits of at least 80"
    assert claims.core(findings).startswith(said)
    assert "circuits agree less than the 0.80" in claims.core(findings)  # .84, .84^2 and .84^3 between samples
    alike = replace(findings, stability=(sample.overlap("bootstrap", ("all prompts", "sample 1"), (20, 20), 0.9),))
    assert "of 1 sample and make up the core, which alone keeps 60" in claims.core(alike)
    assert "agree less" not in claims.core(alike)
    assert claims.core(replace(alike, core=None)).endswith("of 1 sample and make up the core")
    assert claims.core(replace(findings, stability=())) is None


def test_agreement_has_its_interval_and_one_pair_none(findings):
    said = claims.stability(findings)
    found = findings.stability[0].agreement
    assert 0 <= found.low < found.value < found.high <= 1
    assert f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}] between all prompts and 3 samples of them" in said
    assert "0.71 between 2 halves" in said


def test_circuits_beyond_their_dictionaries_are_marked_wherever_they_stand(findings):
    within = replace(findings, curves=(), cases=findings.cases[1:], controls=None)
    assert not any(claims.beyond(within).values())
    assert "†" not in page(within)
    above = sample.task_metrics("circuit", 0.95)
    assert above.exceeds_dictionaries
    assert not sample.task_metrics("circuit", 0.9).exceeds_dictionaries
    assert not findings.budget[-3].exceeds_dictionaries
    # Of dictionaries that keep less than nothing: above them is above.
    below = replace(above, faithfulness_to_dictionaries=sample.task_metrics("", -0.5).faithfulness)
    assert below.exceeds_dictionaries
    assert not replace(below, faithfulness=sample.task_metrics("", -0.5).faithfulness).exceeds_dictionaries
    marked = replace(findings, budget=(*findings.budget[:-2], above, findings.budget[-1]), curves=(), cases=())
    assert claims.headline(marked).count("†") == 1
    assert claims.summary(marked).count("†") == 1
    assert claims.beyond(marked)["budget"].startswith("† more faithful than the dictionaries")
    assert "0.95†" in figures.budget(marked).axes[0].texts[-2].get_text()
    assert page(marked).count("†") >= 4


def test_what_the_mark_says_stands_in_each_part_of_the_report_that_has_it(findings):
    # Beyond their dictionaries are circuits in controls alone.
    within = replace(findings, curves=(), cases=findings.cases[1:], core=None)
    assert [part for part, note in claims.beyond(within).items() if note] == ["controls"]
    before, after = page(within).split('<section id="controls">')
    assert "more faithful than the dictionaries with all" not in before
    assert after.split("</section>")[0].count("† more faithful than the dictionaries with all") == 1


def test_claims_stand_beside_what_the_same_search_finds_in_controls(findings, seen):
    said = claims.against_controls(findings)
    assert said.startswith(
        "Against the same search in 2 controls (shuffled-latents, frozen-decoder) the circuit is bett"
    )
    assert "better: KL to the full model, nats by +0.180 [+0.110, +0.240] over frozen-decoder; it is not shown" in said
    assert said.endswith("distance of faithfulness from 1 by −0.0090 [−0.050, +0.030] over frozen-decoder")
    only = replace(findings.controls, gaps=findings.controls.gaps[:1])
    alone = claims.against_controls(replace(findings, controls=only))
    assert "the circuit is not shown to be better: distance" in alone
    text = re.sub(r"\s+", " ", seen.text)
    assert said in text
    # Its own dictionaries keep .80, the circuit in them .88.
    assert "frozen-decoder0.80180.88 [0.85, 0.90]†" in text
    assert 'id="controls"' not in page(replace(findings, controls=None))


def test_families_stand_with_their_own_prompts_and_the_others(findings, seen):
    said = claims.families(findings)
    assert said.startswith("By case 2 families; of its own held-out prompts each keeps: 'ABBA' (0 nodes): 91")
    assert said.count("searches on its samples agree 0.82 [0.79, 0.84]") == 2
    text = re.sub(r"\s+", " ", seen.text)
    assert "ABBA40200" in text
    assert "its ownthe others'0.950.42 [0.39, 0.44]0.58 [0.55, 0.60]" in text
    assert "its ownits own0.930.91 [" in text
    assert "Too few prompts: odd" in text
    assert "<b>BABA" not in page(findings)
    assert "--families" not in claims.core(findings)
    assert "over fewer than" not in said + page(findings)
    first, *rest = findings.families.families
    beyond = replace(findings.families, families=(replace(first, dictionaries=0.9), *rest))
    marked = replace(findings, families=beyond, curves=(), cases=findings.cases[1:], core=None, controls=None)
    assert [part for part, note in claims.beyond(marked).items() if note] == ["families"]
    assert claims.families(marked).count("†") == 1
    shown = page(marked).split('<section id="families">')[1].split("</section>")[0]
    assert re.search(r"0\.91 .*†</td>", shown)
    assert shown.count("† more faithful than the dictionaries with all") == 1
    few = replace(findings, families=replace(findings.families, families=(replace(first, held_out=9), *rest)))
    assert claims.families(few).endswith("; intervals over fewer than 10 prompts say little")
    assert "Intervals over fewer than 10 prompts say little." in page(few)
    alone = replace(findings, families=None)
    assert "--families searches families" in claims.core(alone)
    assert 'id="families"' not in page(alone)


def test_unseen_templates_stand_beside_other_methods(findings, seen):
    said = claims.unseen(findings)
    assert said.startswith(
        "On 44 held-out prompts of 2 templates that no search saw (gave, <b>met) the circuit keeps 61"
    )
    assert "3 nodes of it at roles that they lack" in said
    assert said.endswith("of its size integrated gradients 57\u202f%")
    text = re.sub(r"\s+", " ", seen.text)
    assert "integrated gradients, at most as many nodes0.57" in text
    assert "<b>met" not in page(findings)
    few = claims.unseen(replace(findings, unseen=replace(findings.unseen, prompts=9)))
    assert few == said.replace("44 held-out", "9 held-out") + "; intervals over fewer than 10 prompts say little"
    assert claims.unseen(replace(findings, unseen=None)) is None
    assert 'id="unseen"' not in page(replace(findings, unseen=None))


def test_scores_of_graphs_are_said(findings, seen):
    said = claims.explained(findings)
    assert said.endswith("the replacement score is 0.21 [0.18, 0.23], the completeness score 0.61 [0.58, 0.63]")
    assert said in re.sub(r"\s+", " ", seen.text)


def test_areas_say_whose_definition_they_follow(seen):
    said = re.sub(r"\s+", " ", seen.text)
    assert "(m(C) − m(empty)) / (m(full) − m(empty))" in said
    assert "over the share of the same candidate nodes" in said


def test_warnings_are_loud_and_absent_without_cause(findings, seen):
    assert "alert" in seen.having("role")
    assert "alert" not in Page(page(replace(findings, warnings=()), {})).having("role")


def test_missing_parts_are_said_to_be_missing_and_no_nan_is_shown(tmp_path):
    write_report(sample.bare(), tmp_path)
    seen = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    for note in (
        "No error budget",
        "No curves",
        "No subsets",
        "Stability was not measured",
        "No settings",
        "was not measured",
    ):
        assert note in seen.text
    assert not re.search(r"\b(nan|None|inf|Undefined)\b", seen.text, re.IGNORECASE)
    assert [path.name for path in (tmp_path / "figures").glob("*.png")] == ["circuit_map.png"]
    assert json.loads((tmp_path / "findings.json").read_text(encoding="utf-8"))["nodes"][0]["effect"] == "NaN"


def test_a_circuit_without_nodes_is_a_page_too(findings):
    assert "The circuit has no nodes." in Page(page(replace(findings, nodes=()), {})).text


def test_the_same_findings_give_the_same_bytes(folder, tmp_path):
    write_report(sample.findings(), tmp_path)
    for path in folder.rglob("*"):
        if path.is_file():
            assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


def test_saved_findings_load_and_give_the_same_page(findings, folder, tmp_path):
    loaded = Findings.load(folder / "findings.json")
    # As JSON, because one NaN does not equal another.
    assert to_json(loaded, Findings) == to_json(findings, Findings)
    write_report(loaded, tmp_path)
    assert (tmp_path / "report.html").read_bytes() == (folder / "report.html").read_bytes()
    assert (tmp_path / "findings.json").read_bytes() == (folder / "findings.json").read_bytes()


def as_version_1(body):
    """What findings were called in files of version 1 and before."""
    text = json.dumps(body).replace('"task_metrics": ', '"behaviour": ').replace('"incorrect": ', '"wrong": ')
    assert '"behaviour": {' in text
    assert '"wrong": "' in text
    return text


def test_findings_of_version_2_load(findings, folder, tmp_path):
    body = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    assert body.pop("format") == "gossamer.findings.3"
    (tmp_path / "findings.json").write_text(json.dumps({"format": "gossamer.findings.2", **body}))
    assert to_json(Findings.load(tmp_path / "findings.json"), Findings) == to_json(findings, Findings)


def test_findings_of_version_1_load(findings, folder, tmp_path):
    body = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    old = json.loads(as_version_1({name: one for name, one in body.items() if name not in ("format", "sha256")}))
    (tmp_path / "findings.json").write_text(json.dumps({"format": "gossamer.findings.1", "sha256": digest(old), **old}))
    assert to_json(Findings.load(tmp_path / "findings.json"), Findings) == to_json(findings, Findings)


def test_findings_of_before_there_were_versions_load(findings, folder, tmp_path):
    value = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    later = ("format", "sha256", "metric", "unit", "kept", "distance")
    old = {name: one for name, one in value.items() if name not in later}
    text = as_version_1(old).replace('"NaN"', "null").replace('"metric": ', '"logit_diff": ')
    assert '"logit_diff": {' in text
    (tmp_path / "findings.json").write_text(text)
    assert to_json(Findings.load(tmp_path / "findings.json"), Findings) == to_json(findings, Findings)
    (tmp_path / "findings.json").write_text("{}")
    with pytest.raises(GossamerError, match=r"findings\.json: expected saved findings, found damage"):
        Findings.load(tmp_path / "findings.json")


def test_json_holds_what_was_found(findings, folder):
    found = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    assert found["budget"][-2]["faithfulness"]["value"] == 0.871
    assert [node["card"]["feature"] for node in found["nodes"]] == [str(node.card.feature) for node in findings.nodes]


def test_five_hundred_nodes_stay_small_and_all_are_listed(folder):
    pictures = {path.stem: path.read_text(encoding="utf-8") for path in (folder / "figures").glob("*.svg")}
    html = page(sample.findings(500), pictures)
    assert len(html.encode()) < 3_000_000
    ids = Page(html).having("id")
    assert sum(name.startswith("row-") for name in ids) == 500
    assert sum(bool(re.fullmatch(r"node-\d+", name)) for name in ids) == 60


def test_boxes_and_cards_point_at_things_that_exist():
    html = page(sample.findings(300), {})
    seen = Page(html)
    targets = {value[1:] for value in seen.having("href") if value.startswith("#")}
    boxes = {node["href"][1:] for node in map_of(html)["nodes"]}
    assert len(boxes) == 300
    assert targets | boxes <= set(seen.having("id"))


def test_an_incomplete_budget_is_refused(findings):
    with pytest.raises(GossamerError, match=r"expected full model, .* found full model"):
        page(replace(findings, budget=findings.budget[:1]), {})


class _Tables(HTMLParser):
    """How many cells each row of each table has, its head first."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append(0)
        elif tag in ("td", "th") and self.tables:
            self.tables[-1][-1] += int(dict(attrs).get("colspan") or 1)


def test_every_row_has_a_cell_under_each_heading() -> None:
    found = sample.findings()
    unreached = replace(found, curves=(*found.curves, replace(found.curves[0], method="none", points=())))
    for findings in (found, unreached):
        read = _Tables()
        read.feed(page(findings))
        assert len(read.tables) > 5
        for rows in read.tables:
            assert set(rows) == {rows[0]}, rows


def test_without_a_repeated_search_stability_is_not_drawn() -> None:
    found = sample.findings()
    alone = replace(found, stability=tuple(one for one in found.stability if one.kind == "size"))
    assert alone.stability
    assert "no search was repeated (--reruns)" in page(alone)
    assert "no search was repeated" not in page(found)
