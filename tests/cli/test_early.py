"""Mistakes in the line are refused at once: before torch is imported, and long before a model is loaded."""

import json
import subprocess
import sys

MISTAKES = {
    ("circuit", "bundled:spool", "-t", "ioi", "-f", "90"): "faithfulness: a share above 0 and at most 1 expected",
    ("circuit", "bundled:spool", "-t", "ioi", "--size", "0"): "size: at least 1 node expected, found 0",
    (
        "circuit",
        "bundled:spool",
        "-t",
        "ioi",
        "-s",
        "5",
        "-f",
        ".9",
    ): "give faithfulness or size as the target",
    ("circuit", "bundled:spool", "-t", "ioi", "-d", "none"): "none: no such file or folder",
    ("circuit", "bundled:spool", "-t", "none.csv"): "none.csv: no such file",
    ("circuit", "bundled:spool", "-t", "ioi", "--other", "none.json"): "none.json: no such file",
    ("circuit", "bundled:spool", "-t", "ioi", "--out", "FILE"): "cannot be written",
    ("demo", "--out", "FILE"): "cannot be written",
    ("evaluate", "bundled:spool", "--text", "none"): "none: no such file",
    ("evaluate", "bundled:spool", "--text", "FILE", "-d", "none"): "none: no such file or folder",
    ("check", "bundled:spool", "--text", "none"): "none: no such file",
    ("check", "bundled:spool", "--fact", "sit=z.1"): "--fact: each of site=, model_name=",
    ("check", "bundled:spool", "--fact", "norm_scaling_factor=x"): "norm_scaling_factor=NUMBER expected",
    ("pursuit", "bundled:spool", "--text", "FILE", "-d", "none"): "none: no such file or folder",
    ("train", "bundled:spool", "--text", "none"): "none: no such file",
    ("compare-recipes", "bundled:spool", "--text", "none", "--out", "new"): "none: no such file",
    ("evaluate-circuit", "none.json"): "none.json: no such file",
    ("report", "none.json"): "none.json: no such file",
    ("tasks", "none.json"): "none.json: no such file",
}
# One process runs all lines, without torch: whatever imports it fails.
RUN = """
import contextlib, io, json, sys
sys.modules["torch"] = None
from gossamer import cli
found = []
for line in json.loads(sys.argv[1]):
    sys.argv, said = ["gossamer", *line], io.StringIO()
    cli.printing.err.file = said
    try:
        cli.main()
    except BaseException as error:
        found.append([repr(error), said.getvalue()])
print(json.dumps(found))
"""


def test_mistakes_cost_no_import_of_torch(tmp_path):
    file = tmp_path / "file.txt"
    file.write_text("Some text.")
    lines = [[str(file) if word == "FILE" else word for word in line] for line in MISTAKES]
    ran = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(lines)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    for line, (ended, said), expected in zip(lines, json.loads(ran.stdout), MISTAKES.values(), strict=True):
        assert ended == "SystemExit(2)", (line, ended, said)
        assert expected in said.replace("\n", " "), line
        assert len(said.strip().splitlines()) == 1, line
