"""Mistakes in the line are refused at once: before torch is imported, and long before a model is loaded."""

import json
import subprocess
import sys
from contextlib import closing

import pytest
import torch

from gossamer.app.ports import listen
from gossamer.attention.ioi import PARTS
from gossamer.circuits.evaluate.against_controls import SHUFFLED
from gossamer.circuits.families.grouping import KINDS
from gossamer.circuits.methods import METHODS
from gossamer.cli import coding, early
from gossamer.errors import UsageError
from gossamer.explain.explainers import EXPLAINERS
from gossamer.explain.model_judges import MODEL_SCORERS
from gossamer.explain.scorers import CHAT_SCORERS, SCORERS
from gossamer.relations import DECODER_COSINE, MEASURES
from gossamer.relations.lifecycle import MATCHINGS
from gossamer.replacement import coding_study
from gossamer.report.circuit_export import FORMATS
from gossamer.report.coding import PURSUITS
from gossamer.steering.coefficient import UNITS
from gossamer.steering.concept import ROWS
from gossamer.steering.intervention import OF_LATENT
from gossamer.tasks import GENERATORS
from gossamer.tasks.metric import METRICS
from gossamer.training.controls import CONTROLS

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
    ("circuit", "bundled:spol", "-t", "ioi"): "bundled:spol: no such bundled model; expected one of spool",
    ("circuit", "./none", "-t", "ioi"): "./none: no such folder; give a model folder",
    ("circuit", "org/model", "-t", "ioi"): "--dictionaries: expected a folder or hub:REPO/PATH",
    ("circuit", "bundled:spool", "-t", "ioi", "-d", "bundled:spol"): "bundled:spol: no such bundled model",
    ("evaluate-circuit", "FILE", "--model", "bundled:spol"): "bundled:spol: no such bundled model",
    ("steer", "bundled:spol", "--text", "FILE"): "bundled:spol: no such bundled model",
    ("trace", "org/model", "-p", "x"): "--dictionaries: expected a folder or hub:REPO/PATH",
    ("trace", "bundled:spool", "-p", "x", "--out", "."): ".: the name of a file expected, found a folder",
    ("explore", "bundled:spool", "-p", "x", "--out", "FILE/page.html"): "cannot be written",
    ("relate", "bundled:spool", "--text", "FILE", "--out", "FILE"): "cannot be written",
    ("study-relations", "org/model", "--text", "FILE", "--held-out", "FILE"): "--dictionaries: expected a folder",
    ("lifecycle", "none"): "none: no such folder; give the --out of gossamer relate",
    ("explain", "none"): "none: a feature store expected, found no store.json",
    ("game", "none"): "none: a feature store expected, found no store.json",
    ("store", "query", "none"): "none: a feature store expected, found no store.json",
    ("toys", "--out", "FILE"): "cannot be written",
    ("train", "bundled:spool", "--text", "FILE", "--out", "FILE"): "cannot be written",
    ("view", ".", "--port", "TAKEN"): "cannot be used (Address already in use); give --port with another number",
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
    ("tasks", "ioo"): "task: expected one of ioi, sva-simple",
    ("circuit", "bundled:spool", "-t", "ioo"): "task: expected one of ioi, sva-simple",
    ("circuit", "bundled:spool", "-t", "ioi", "--metric", "x"): "--metric: expected one of logit_diff",
    ("circuit", "bundled:spool", "-t", "ioi", "--roles", "x"): "--roles: expected one of given",
    ("circuit", "bundled:spool", "-t", "ioi", "--recipe", "x"): "--recipe: expected one of gossamer",
    ("circuit", "bundled:spool", "-t", "ioi", "--loss", "x"): "--loss: expected one of metric, kl",
    ("circuit", "bundled:spool", "-t", "ioi", "--steps", "0"): "--steps: at least 1 expected, found 0",
    ("circuit", "bundled:spool", "-t", "ioi", "--ablation", "x"): "--ablation: expected one of mean",
    ("circuit", "bundled:spool", "-t", "ioi", "--errors", "x"): "--errors: expected one of mean",
    ("circuit", "bundled:spool", "-t", "ioi", "--masks", "x"): "--masks: expected one of role",
    (
        "circuit",
        "bundled:spool",
        "-t",
        "ioi",
        "--compare",
        "x",
    ): "--compare: some of mask | reference recipe |",
    (
        "circuit",
        "bundled:spool",
        "-t",
        "ioi",
        "--compare",
        "mask",
        "--compare",
        "none",
    ): "none alone expected, found 'none'",
    ("circuit", "bundled:spool", "-t", "ioi", "--reruns", "-1"): "--reruns: at least 0 expected",
    ("circuit", "bundled:spool", "-t", "ioi", "--minimum-accuracy", "75"): "a share from 0 to 1 expected",
    ("circuit", "bundled:spool", "-t", "ioi", "--validation", "1"): "a share from 0 to less than 1 expected",
    ("circuit", "bundled:spool", "-t", "ioi", "--batch-size", "0"): "--batch-size: at least 1 expected",
    ("circuit", "bundled:spool", "-t", "ioi", "--dtype", "int64"): "--dtype: expected one of float32",
    ("evaluate", "bundled:spool", "--text", "FILE", "--rows", "0"): "--rows: at least 1 expected",
    ("evaluate", "bundled:spool", "--text", "FILE", "--context", "1"): "--context: at least 2 expected",
    ("pursuit", "m", "--text", "FILE", "-d", "FILE", "--k", "2;4"): "--k: expected numbers as 2,4,6",
    ("pursuit", "m", "--text", "FILE", "-d", "FILE", "--method", "x"): "--method: expected one of encoder",
    ("pursuit", "m", "--text", "FILE", "-d", "FILE", "--method", "top_k"): "--method: one of gradient, orthogonal",
    ("compare-recipes", "m", "--text", "FILE", "--out", "new", "--batch", "0"): "--batch: at least 1 expected",
    ("compare-recipes", "m", "--text", "FILE", "--out", "new", "--coefficients", "a"): "expected numbers separated by",
    ("ioi", "m", "--only", "patching,x"): "--only: expected one of ability, patching",
    ("ioi", "m", "--prompts", "4"): "--prompts: at least 8 expected",
    ("relate", "m", "--text", "FILE", "--measure", "x"): "--measure: expected one of jaccard",
    ("lifecycle", "FILE", "--matching", "x"): "--matching: expected one of best",
    ("toys", "--seeds", "0"): "--seeds: at least 1 expected",
    ("explain", "s", "--by", "x"): "--by: expected one of rule, bills",
    ("explain", "s", "--score", "x"): "--score: expected one of detection",
    ("explain", "s", "--score", "fade"): "fade: a language model",
    ("explain", "s", "--features", "0"): "--features: at least 1 expected",
    ("explain", "STORE", "--price", "1"): "INPUT,OUTPUT expected",
    ("explain", "s", "--model", "m"): "give the missing one",
    ("explain", "s", "--texts", "none.csv"): "none.csv: no such file",
    ("game", "s", "--endpoint", "http://localhost/v1"): "give the other one too",
    ("game", "s", "--rounds", "0"): "--rounds: at least 1 expected",
    ("steer", "m", "--text", "none"): "none: no such file",
    ("steer", "m", "--text", "FILE"): "either --feature SITE/LATENT or --words",
    ("steer", "m", "--text", "FILE", "--words", "sad", "--unit", "raw"): "--unit: residual_norm expected",
    ("steer", "m", "--text", "FILE", "--words", "sad", "-c", "much"): "--coefficients: expected numbers",
    ("steer", "m", "--text", "FILE", "--kind", "push"): "--kind: expected one of feature_add",
    ("steer", "m", "--text", "FILE", "--unit", "volts"): "--unit: expected one of raw",
    ("steer", "m", "--text", "FILE", "--neutral", "1"): "--neutral: at least 2 expected",
}
# One process runs all lines, without torch: whatever imports it fails.
RUN = """
import contextlib, io, json, os, sys
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
print(json.dumps([found, os.environ.get("THP_MEM_ALLOC_ENABLE")]))
"""


def written(word, stands_for):
    """A word of a line with what stands for places of this run."""
    for name, value in stands_for.items():
        word = word.replace(name, value)
    return word


def test_mistakes_cost_no_import_of_torch(tmp_path):
    file = tmp_path / "file.txt"
    file.write_text("Some text.")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").write_text("{}")
    with closing(listen(0)) as held:
        stands_for = {"FILE": str(file), "STORE": str(tmp_path / "store"), "TAKEN": str(held.getsockname()[1])}
        lines = [[written(word, stands_for) for word in line] for line in MISTAKES]
        ran = subprocess.run(
            [sys.executable, "-c", RUN, json.dumps(lines)], capture_output=True, text=True, check=True, cwd=tmp_path
        )
    found, large_pages = json.loads(ran.stdout)
    # torch reads it when it is imported.
    assert large_pages == "1"
    for line, (ended, said), expected in zip(lines, found, MISTAKES.values(), strict=True):
        assert ended == "SystemExit(2)", (line, ended, said)
        assert expected in said.replace("\n", " "), line
        assert len(said.strip().splitlines()) == 1, line


def test_names_are_those_of_the_library():
    assert tuple(GENERATORS) == early.TASKS
    assert tuple(METRICS) == early.METRICS
    assert tuple(METHODS) == early.CIRCUIT_METHODS
    assert early.FAMILIES == KINDS
    assert tuple(FORMATS) == early.CIRCUIT_FORMATS
    assert (SHUFFLED,) == early.CIRCUIT_CONTROLS
    assert set(early.TRAINING_CONTROLS) == set(CONTROLS)
    assert early.IOI_PARTS == PARTS
    assert early.CODING_METHODS == coding_study.METHODS
    assert early.STEERING_UNITS == UNITS
    assert early.STEERING_ROWS == ROWS
    assert tuple(OF_LATENT) == early.STEERING_KINDS
    assert coding._PURSUITS == PURSUITS
    assert (*MEASURES, DECODER_COSINE) == early.MEASURES
    assert early.MATCHINGS == MATCHINGS
    assert ("rule", *EXPLAINERS) == early.EXPLAINERS
    assert tuple(SCORERS) == early.RULE_SCORERS
    assert tuple(CHAT_SCORERS) == early.CHAT_SCORERS
    assert early.MODEL_SCORERS == MODEL_SCORERS
    assert all(isinstance(getattr(torch, name), torch.dtype) for name in early.DTYPES)


def test_a_folder_stands_for_the_file_in_it(tmp_path):
    with pytest.raises(UsageError, match=r"circuit\.json: no such file; give a circuit\.json, or the --out"):
        early.result_file(tmp_path, "circuit.json")
    (tmp_path / "circuit.json").write_text("{}")
    for given in (tmp_path, tmp_path / "circuit.json"):
        assert early.result_file(given, "circuit.json") == tmp_path / "circuit.json"
    with pytest.raises(UsageError, match="no such file"):
        early.result_file(tmp_path / "other.json", "circuit.json")


@pytest.mark.parametrize("command", ["trace", "explore", "steer"])
def test_texts_with_nothing_in_them_are_refused(gossamer, command):
    refused = gossamer(command, "bundled:spool", "-p", " ", *(("--text", "x") if command == "steer" else ()))
    assert (refused.code, refused.err) == (2, "error: --prompt: some text expected, found none; give a word at least\n")
