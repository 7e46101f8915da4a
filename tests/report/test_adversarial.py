"""The page of adversarial prompts: what it says first, what it escapes, and that it is the same again."""

from dataclasses import replace

from gossamer.circuits.adversarial import AdversarialResults
from gossamer.circuits.adversarial.results import (
    Acceptance,
    Arm,
    BrokenPrompt,
    Comparison,
    Detector,
    PromptRepair,
    RecipeCluster,
    Repair,
)
from gossamer.report.adversarial import (
    adversarial_page,
    arm_rows,
    cluster_rows,
    listed_detectors,
    look_rows,
    repair_rows,
    write_adversarial_page,
)
from gossamer.statistics import Interval


def sample(broken=True):
    half = Interval(0.5, 0.2, 0.8)
    arms = tuple(
        Arm(one, ("name IO = Tom",), 3, half, (broken, False), -0.5, 0.4, (half, half), 20.0, 64, 2) for one in "ABCDEF"
    )
    return AdversarialResults(
        task="ioi",
        model="m<b>",
        circuit="0" * 64,
        nodes=2,
        settings={"budget": 32, "prompts": 4, "edits": 3, "choice": 24},
        edits=70,
        searches=2,
        failed_before=1,
        refused=0,
        apart="names and templates",
        budgets=(16, 32),
        detectors=(Detector(("resid_post.1/3@S2",), 1.5, {"S2": 0.9}, True),),
        arms=arms,
        comparisons=tuple(Comparison(one, 1, 1, 1.0, 0, 0, 1.0) for one in "ABCEF"),
        repairs=(Repair(0, 0.75, 0.1, 1, 0, 2, -1.25),) if broken else (),
        failures=(BrokenPrompt((" <i>", "a"), (" <i>", "b"), " Tom", " Sam", 2.0, -1.0),) if broken else (),
        setup=160,
    )


def test_the_page_begins_with_the_verdict_and_escapes_tokens(tmp_path):
    found = sample()
    page = adversarial_page(found)
    assert page.index("The circuit added nothing: one recipe found with it breaks 1 of 2") < page.index("<main>")
    assert "m&lt;b&gt;" in page
    assert "<i>" not in page.replace("&lt;i&gt;", "")
    assert '<span class="t differs">b<sup>*</sup></span>' in page
    assert "no names and templates with those of the search" in page
    assert "<td>75\u202f%</td><td>10\u202f%</td>" in page
    assert write_adversarial_page(found, tmp_path / "page.html").read_text() == page == adversarial_page(sample())


def test_what_is_missing_has_a_line_that_says_so():
    page = adversarial_page(sample(broken=False))
    assert "It breaks none of the held-out prompts." in page
    assert "Nothing was broken that could be repaired" in page


def test_the_table_has_every_arm():
    rows = arm_rows(sample())
    assert [row[0][0] for row in rows[1:]] == list("ABCDEF")
    # Results of older files say nothing of closer looks.
    assert rows[1][1:] == ("1 of 2", "20% to 80%", "", "40%", "20", "20", "", "", "name IO = Tom")
    assert rows[4][6] == ""


def test_closer_looks_costs_and_clusters_are_told():
    old, looks = sample(), Acceptance(9, 7, 6, 5, 4, 3, 8)
    clusters = (RecipeCluster(("name", "<u>"), 0, 1, 2), RecipeCluster((), None, 1, 1))
    arms = tuple(replace(one, accepted=looks, distance=2.5, cross_entropy=0.25, clusters=clusters) for one in old.arms)
    found = replace(old, arms=arms, dtype="bfloat16", discovery=4000.0)
    row = arm_rows(found)[4]
    # Reading took 160 passes and finding 4,000, for two searches.
    assert row[3:9] == ("3", "40%", "20", "2,100", "2.5", "+0.25")
    assert arm_rows(found)[5][6] == "20", "a circuit of random latents costs no search"
    assert look_rows(found)[4] == ("D the circuit", "9", "7", "6", "5", "4", "3", "8")
    assert cluster_rows(found)[1:3] == [
        ("A random valid edits", "name, <u>", "1", "1", "2"),
        ("A random valid edits", "no edit", "none", "1", "1"),
    ]
    page = adversarial_page(found)
    assert "name, &lt;u&gt;" in page
    assert "2,100 if reading it (160 passes) and finding it (about 4,000) are charged" in page
    assert "what finding it cost is not known" in adversarial_page(old)
    assert (look_rows(old), cluster_rows(old)) == ([], [])


def test_a_broken_prompt_has_every_group_that_was_put_back():
    old = sample()
    # From -1 to 2 the margin is 3: 1.25 is three quarters of the way.
    repairs = (PromptRepair(None, 1.0, 0.5, 1.25, -0.7), PromptRepair(0, 1.5, 1.25, -0.4, -1.3))
    found = replace(old, failures=(replace(old.failures[0], repairs=repairs),))
    assert repair_rows(found, found.failures[0])[1:] == [
        ("the whole circuit", "2", "+1.00", "+0.50", "+1.25", "75\u202f%", "-0.70", "10\u202f%"),
        ("detector 1", "1", "+1.50", "+1.25", "-0.40", "20\u202f%", "-1.30", "−10\u202f%"),
    ]
    page = adversarial_page(found)
    assert "75\u202f% of the margin restored by the whole circuit, 10\u202f% by random latents" in page
    assert "<td>-1.30</td>" in page
    assert "Shown: 1 of 1 prompt that it breaks." in page
    changed = replace(old, failures=(replace(old.failures[0], repairs=()),))
    assert "the edits change the right answer" in adversarial_page(changed)
    assert "the edits change the right answer" not in adversarial_page(old), "older files do not say"


def test_detectors_that_move_most_in_a_prompt_come_first():
    old = sample()
    detectors = (*old.detectors, Detector(("resid_post.1/4@S2", "resid_post.1/5@S2"), 0.5, {"S2": 0.9}, True))
    repairs = tuple(PromptRepair(*one, 0.0, -1.0) for one in ((None, 0.0, 0.0), (0, 1.0, 0.9), (1, 0.5, -0.5)))
    found = replace(old, detectors=detectors, failures=(replace(old.failures[0], repairs=repairs),))
    rows = repair_rows(found, found.failures[0])
    assert [row[:2] for row in rows[1:]] == [("the whole circuit", "2"), ("detector 2", "2"), ("detector 1", "1")]


def test_every_detector_that_is_named_is_listed():
    old = sample()
    detectors = tuple(replace(old.detectors[0], nodes=(f"resid_post.1/{place}@S2",)) for place in range(20))
    found = replace(
        old,
        detectors=detectors,
        repairs=(replace(old.repairs[0], detector=None), replace(old.repairs[0], detector=16)),
        failures=(replace(old.failures[0], repairs=(PromptRepair(18, 1.0, 0.5, 1.25, -0.7),)),),
        arms=tuple(replace(one, clusters=(RecipeCluster((), 13, 1, 1),)) for one in old.arms),
    )
    assert [number for number, _ in listed_detectors(found)] == [*range(12), 13, 16, 18]
    page = adversarial_page(found)
    assert "detector 17</td>" in page
    assert '<td class="left">17 <span class="tok">resid_post.1/16@S2</span>' in page
    assert "resid_post.1/17@S2" not in page
    assert len(listed_detectors(old)) == 1
