"""What is uploaded arrives whole in one commit, and loads from there as it was."""

import json
import shutil

import pytest
import yaml

from gossamer import bundled
from gossamer.dictionary import DictionarySet
from gossamer.errors import GossamerError, UsageError
from gossamer.hub import prepare

SET = bundled.path("spool") / "dictionaries"
ROUND_TRIP = """
import json, sys
from pathlib import Path
import torch
from gossamer.dictionary import DictionarySet
from gossamer.errors import GossamerError
from gossamer.hub import prepare

address = prepare({set!r}, "me/spool", license="mit").send(private=True)
ours, theirs = DictionarySet.load({set!r}), DictionarySet.load("hub:me/spool")
same = [
    list(ours) == list(theirs)
    and all(torch.equal(one, theirs[site].state_dict()[name]) for name, one in ours[site].state_dict().items())
    for site in ours
]
sources = [one.provenance["source"] for one in theirs.values()]
print(json.dumps({{"address": address, "same": same, "sources": sources}}))
"""
REFUSED = """
from gossamer.errors import GossamerError
from gossamer.hub import prepare

try:
    prepare({set!r}, "me/spool").send()
except GossamerError as error:
    print(error)
"""
CHANGED = """
from gossamer.dictionary import DictionarySet
from gossamer.errors import GossamerError

try:
    DictionarySet.load("hub:me/spool")
except GossamerError as error:
    print(error)
"""


def test_dictionaries_load_from_where_they_were_uploaded(hub, python):
    said = json.loads(python(ROUND_TRIP.format(set=str(SET))).splitlines()[-1])
    sites = list(map(str, DictionarySet.load(SET)))
    assert said["same"] == [True] * len(sites)
    assert said["sources"] == [f"hub:me/spool/{site}" for site in sites]
    ((repository, files),) = hub.commits
    assert said["address"].startswith(f"{hub.url}/me/spool/commit/")
    assert repository == "me/spool"
    names = [f"{site}/{name}" for site in sites for name in ("cfg.json", "sae_weights.safetensors")]
    assert sorted(files) == sorted(["README.md", "dictionaries.json", *names])
    assert hub.repositories["me/spool"]["private"]
    held = hub.repositories["me/spool"]["files"]
    assert all(held[name] == (SET / name).read_bytes() for name in files if name != "README.md")
    # One that was changed there is refused.
    held[names[1]] = held[names[1]][:-1] + bytes([held[names[1]][-1] ^ 1])
    assert "expected SHA-256" in python(CHANGED)


def test_who_is_not_logged_in_is_told(hub, python):
    assert "hf auth login" in python(REFUSED.format(set=str(SET)), token=None)
    assert hub.commits == []
    assert "hf auth login" in python(REFUSED.format(set=str(SET)), token="hf_another")
    assert hub.commits == []


def test_a_folder_of_neither_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"circuit\.json or dictionaries\.json expected, found neither"):
        prepare(tmp_path, "me/x")
    for name in ("x", "me/x/y", "me/ x", "me/", "/x", "me/x\n"):
        with pytest.raises(UsageError, match="OWNER/NAME"):
            prepare(SET, name)


def test_what_was_changed_after_saving_is_not_uploaded(tmp_path):
    copy = shutil.copytree(SET, tmp_path / "set")
    weights = next(copy.glob("*/sae_weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(GossamerError, match="expected SHA-256"):
        prepare(copy, "me/x")


def test_the_finished_set_of_a_training_run_is_meant(tmp_path):
    shutil.copytree(SET, tmp_path / "dictionaries")
    found = prepare(tmp_path, "me/x")
    assert found.files["dictionaries.json"] == tmp_path / "dictionaries" / "dictionaries.json"


def test_the_card_begins_with_facts_that_the_hub_reads():
    card = prepare(SET, "me/x", license="apache-2.0").card
    facts = yaml.safe_load(card.split("---")[1])
    assert facts["library_name"] == "gossamer"
    assert facts["license"] == "apache-2.0"


def test_a_hub_that_is_not_there_is_told_and_nothing_is_lost(hub, python):
    hub.shutdown()
    hub.server_close()
    assert "not uploaded, no file there was changed" in python(REFUSED.format(set=str(SET)))
