"""YAML of other people: plain values or one line, and never more memory than the file has."""

import pytest

from gossamer.errors import GossamerError, UsageError
from gossamer.yaml_files import read_yaml

BOMB = "a0: &a0 [x, x]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))


def test_words_stay_words(tmp_path):
    path = tmp_path / "a.yaml"
    moment = "2001-12-14t21:59:43.10-05:00"
    path.write_text(f"day: 2024-05-01\nwrong_day: 2024-13-45\nmoment: {moment}\nn: 3\nmany: [1.5, true]\n")
    found = read_yaml(path)
    assert found == {
        "day": "2024-05-01",
        "wrong_day": "2024-13-45",
        "moment": moment,
        "n": 3,
        "many": [1.5, True],
    }


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "a: &a [*a]",
        "a: !!python/object/apply:os.system [ls]",
        "a: !!binary x",
        "a: !!int many",
        "a: " + "[" * 20_000,
        "a: " + "9" * 5000,
        "? [1]\n: 2",
        "1: 2",
        "- 1",
        "a: [",
        "",
        "\x00",
        "a: 1\n---\na: 2",
    ],
    ids=range(14),
)
def test_what_is_no_plain_mapping_is_one_line(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(GossamerError, match="expected") as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
