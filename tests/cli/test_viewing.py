"""`gossamer view`: one-line errors at the start."""

import pytest

from gossamer.app import page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing",), "nothing: no such folder; give the --out of a command"),
        (("file.json",), "file.json: the folder of a run expected, found a file"),
        ((".", "--port", "70000"), "--port: a number from 0 to 65535 expected, found 70000"),
        (
            (".", "--player", "model"),
            "view: --endpoint and --player, or none of them, expected; give the other one too",
        ),
        ((".", "--port", "-1"), "--port: a number from 0 to 65535 expected, found -1"),
    ],
)
def test_a_users_mistakes_are_one_line(gossamer, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.json").write_text("{}")
    refused = gossamer("view", *arguments)
    assert refused.code == 2
    assert refused.err.startswith(f"error: {said}")
    assert refused.err.count("\n") == 1


def test_a_page_that_cannot_be_built_is_said_in_one_line(gossamer, tmp_path, monkeypatch):
    def fail():
        raise page.BuildError("building the page needs Node")

    monkeypatch.setattr(page, "is_built", lambda: False)
    monkeypatch.setattr(page, "build", fail)
    refused = gossamer("view", tmp_path)
    assert (refused.code, refused.err.splitlines()[-1]) == (1, "error: building the page needs Node")
