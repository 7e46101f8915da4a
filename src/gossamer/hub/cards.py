"""Cards of what is uploaded: what it is, how good it was measured to be, how it is loaded; only what its files say."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml  # type: ignore[import-untyped]

from gossamer import __version__
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.results import Findings
from gossamer.circuits.task_metrics import budget_marks
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.set import DictionarySet
from gossamer.display import plural
from gossamer.report import claims
from gossamer.report.text import number, percent, ratio

# Of a circuit's nodes, those that its card lists.
_NODES = 30


def dictionaries_card(dictionaries: DictionarySet, repository: str, license: str | None) -> str:
    """The card of a set: a row a site with what was measured on held-out text when it was trained.

    Args:
        dictionaries: the set.
        repository: where it will lie, as `owner/name`.
        license: as the hub names it; None leaves it unsaid.
    """
    model = dictionaries.model_name or "a model that its files do not name"
    head = ("site", "architecture", "latents", "width", "L0", "explained variance")
    rows = [
        (
            f"`{site}`",
            one.architecture,
            f"{one.n_latents:,}",
            str(one.d_in),
            _known(one.reported.l0),
            _known(one.reported.explained_variance),
        )
        for site, one in dictionaries.items()
    ]
    return "\n".join(
        [
            _head(["sparse-autoencoder", "interpretability"], license, dictionaries.model_name),
            f"# {plural(len(dictionaries), 'sparse dictionary', 'sparse dictionaries')} (SAEs) of {model}\n",
            *_table(head, rows),
            *_together(dictionaries),
            "\n## Loading\n",
            *_code(
                "python",
                "from gossamer import DictionarySet, LanguageModel",
                "",
                f'model = LanguageModel.load("{dictionaries.model_name or "MODEL"}")',
                f'dictionaries = DictionarySet.load("hub:{repository}")  # checked against the hashes of its index',
            ),
            "\nEach folder is a dictionary in SAELens' format as well.\n",
            _made(),
        ]
    )


def _together(dictionaries: DictionarySet) -> list[str]:
    """What all of them together cost the model, where training measured it."""
    found = next((said for one in dictionaries.values() if (said := _held_out(one))), None)
    if found is None:
        return ["\nWhat they cost the model together is not in their files.\n"]
    return [
        f"\nAll {len(found.get('spliced_sites', ()))} at once, on {found.get('tokens', 0):,} held-out tokens: "
        f"cross-entropy {number(found['ce_spliced'])} against the model's {number(found['ce_model'])} "
        f"({percent(found['ce_recovered'])} of what mean ablation loses is kept), KL {number(found['kl'])} nats.\n"
    ]


def _held_out(dictionary: Dictionary) -> Mapping[str, Any] | None:
    training = dictionary.provenance.get("training")
    found = training.get("held_out") if isinstance(training, Mapping) else None
    needed = ("ce_spliced", "ce_model", "ce_recovered", "kl")
    return found if isinstance(found, Mapping) and all(isinstance(found.get(name), float) for name in needed) else None


def circuit_card(circuit: Circuit, findings: Findings | None, repository: str, license: str | None) -> str:
    """The card of a circuit: its claim with interval and landmarks, its nodes, what it needs to be measured again.

    Args:
        circuit: the circuit.
        findings: how it was tested; None if it was not.
        repository, license: as for :func:`dictionaries_card`.
    """
    claim = "It was not tested." if findings is None else claims.summary(findings)
    nodes = sorted(circuit.nodes, key=lambda one: -abs(one.score or 0.0))[:_NODES]
    listed = [(f"`{one}`", _known(one.score)) for one in nodes]
    hidden = len(circuit.nodes) - len(nodes)
    return "\n".join(
        [
            _head(["sparse-feature-circuit", "interpretability"], license, circuit.model),
            f"# A sparse feature circuit: {circuit.task} on {circuit.model}\n",
            f"{claim}\n",
            *([] if findings is None else _budget(findings)),
            "\n## Nodes\n",
            *_table(("node", "faithfulness lost without it"), listed),
            *([f"\n{plural(hidden, 'further node')} in `circuit.json`.\n"] if hidden else []),
            "\n## Measuring it again\n",
            *_code(
                "sh",
                f"hf download {repository} circuit.json --local-dir circuit",
                "gossamer evaluate-circuit circuit/circuit.json",
            ),
            *_needs(circuit),
            _made(),
        ]
    )


def _budget(findings: Findings) -> list[str]:
    marks = budget_marks(findings.budget)
    rows = [
        (
            row.name,
            claims.shares(row.faithfulness) + mark,
            ratio(row.prompt_error.value),
            percent(row.accuracy),
            number(row.kl),
        )
        for row, mark in zip(findings.budget, marks, strict=True)
    ]
    note = claims.mark_note(marks, claims.has_errors(findings))
    head = "", f"{findings.kept} kept", "per-prompt error", "accuracy", "KL"
    return [*_table(head, rows), *([f"\n{note}\n"] if note else [])]


def _needs(circuit: Circuit) -> list[str]:
    """What a reader has to have, where the file says it."""
    if circuit.inputs is None:
        return []
    rows = [
        (f"`{site}`", f"`{one.source}`" if one.source else "made in Python", f"`{(one.sha256 or '')[:12]}`")
        for site, one in circuit.inputs.dictionaries.items()
    ]
    said = "\nIt needs these dictionaries, unchanged; give `-d` where they lie elsewhere:\n"
    return [said, *_table(("site", "source", "SHA-256"), rows)]


def _head(tags: Sequence[str], license: str | None, model: str | None) -> str:
    facts: dict[str, Any] = {"library_name": "gossamer", "tags": list(tags)}
    if license is not None:
        facts["license"] = license
    # The hub links what looks like one of its models; a folder's name is none.
    if model is not None and model.count("/") == 1 and not model.startswith(("/", ".")):
        facts["base_model"] = model
    return f"---\n{yaml.safe_dump(facts, sort_keys=False)}---\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    line = "| {} |".format
    shown = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return [line(" | ".join(head)), f"|{'---|' * len(head)}", *(line(" | ".join(row)) for row in shown)]


def _code(language: str, *lines: str) -> list[str]:
    return [f"```{language}", *lines, "```"]


def _known(value: float | None) -> str:
    return "not said" if value is None else number(value)


def _made() -> str:
    return f"\nMade with gossamer {__version__}.\n"
