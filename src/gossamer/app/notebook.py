"""Widgets for notebooks: views of the workbench in a cell (tested in JupyterLab and marimo).

    from gossamer.app import CircuitWidget
    CircuitWidget(found)                      # of find_circuit; also findings, circuit.json, or the --out of a command

What is drawn is the page of `gossamer view`, whole and as text (nothing is fetched from anywhere), and what it asks is
answered by the same routes in the notebook's own process. State is in traitlets: `place` (the reader's place, which can
be set from Python too) and `marks` (pinned nodes, groups, labels). Viewers without widgets show the same as plain HTML.

Needs anywidget: pip install 'gossamer[notebook]'.
"""

import json
import tempfile
import uuid
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import anywidget
import traitlets

from gossamer.app.exported_page import bundle
from gossamer.app.in_process import InProcess, key_of
from gossamer.app.live import LiveModels
from gossamer.app.run_folder import RunFolder
from gossamer.app.server import api, exported_paths
from gossamer.app.workbench import Workbench
from gossamer.attention.attribution_data import AttributionData
from gossamer.circuits.circuit import Circuit, CircuitNode
from gossamer.circuits.find import CircuitResult
from gossamer.circuits.results import Findings
from gossamer.display import html_frame, html_table
from gossamer.errors import GossamerError, UsageError
from gossamer.features.feature import Feature
from gossamer.report.attribution_page import attribution_page
from gossamer.report.notebook_map import CircuitMap

# Answers that a widget brings along, so that it shows something where no kernel answers: at most so many bytes.
_BROUGHT = 2_000_000
Source = CircuitResult | Findings | Circuit | str | Path


class RunWidget(anywidget.AnyWidget):
    """The workbench of a run folder in a cell of a notebook.

    Args:
        run: the `--out` of a command, or a folder of several.
        place: where to begin, as the address of the page has it behind `#`: "/" is the overview.
        device: where models are loaded when something is asked of them.

    Raises:
        UsageError: no such folder.
        GossamerError: the page was not built.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    place = traitlets.Unicode("#/").tag(sync=True)
    answers = traitlets.Dict().tag(sync=True)
    marks: Any = traitlets.Dict({"pinned": [], "groups": [], "labels": {}}).tag(sync=True)
    live = traitlets.Bool(True).tag(sync=True)

    def __init__(self, run: str | Path, place: str = "/", device: str | None = None) -> None:
        self.bench = Workbench(RunFolder(run), LiveModels(device))
        self._routes = InProcess(api(self.bench))
        # A notebook that loads equal texts once would have two widgets share their state.
        module = f"{bundle()}\n// {uuid.uuid4()}\n"
        super().__init__(_esm=module, place=f"#{place}", answers=self._brought(place))
        self.on_msg(self._answer)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.bench.run.name}, {self.place})"

    def ask(self, path: str, method: str = "GET", body: str | None = None) -> Any:
        """What a route of the workbench says, such as `ask("/api/v1/circuits/circuit")`.

        Raises:
            GossamerError: it refuses.
        """
        found = self._routes.ask(path, method, body)
        if found.status != 200:
            raise GossamerError(str((found.json or {}).get("detail", found.status)))
        return found.json

    def _brought(self, place: str) -> dict[str, Any]:
        """Answers to what the view asks first, without a model."""
        part = place.strip("/").partition("?")[0].split("/")[1:2]
        found: dict[str, Any] = {}
        size = 0
        for path in exported_paths(self.bench):
            if path == "/api/v1/run" or (part and part[0] in path.partition("?")[0].split("/")):
                answer = self._routes.ask(path)
                size += len(answer.body)
                if size > _BROUGHT:
                    break
                found[key_of(path)] = answer.given
        return found

    def _bring(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask something of the model now and bring the answer along; returns it."""
        text = json.dumps(body)
        answer = self._routes.ask(path, "POST", text)
        self.answers = {**self.answers, key_of(path, text): answer.given}
        if answer.status != 200:
            raise GossamerError(str(answer.json["detail"]))
        return dict(answer.json)

    def _answer(self, _: Any, asked: Any, __: Any) -> None:
        """A question of the page: first that it was heard, then the answer."""
        identifier = asked["id"]
        self.send({"id": identifier, "heard": True})
        # The folder is held while something is kept there, and no longer: a cell that runs again makes a second widget.
        with self.bench.holding_views() if asked["method"] == "PUT" else nullcontext():
            found = self._routes.ask(asked["path"], asked["method"], asked["body"])
        if found.json is not None:
            self.send({"id": identifier, **found.given})
        else:
            kept = {name: found.headers.get(name, "") for name in ("content-type", "content-disposition")}
            self.send({"id": identifier, "status": found.status, "headers": kept}, buffers=[found.body])

    def _repr_html_(self) -> str:
        rows = [(part.kind, part.path.relative_to(self.bench.run.path)) for part in self.bench.run.parts().values()]
        return html_table(("holds", "file"), rows, self.bench.run.name)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """The widget, and plain HTML for viewers without widgets."""
        found = super()._repr_mimebundle_(**options)
        data, *rest = found if isinstance(found, tuple) else (found,)
        shown = {**(data or {}), "text/html": self._repr_html_()}
        return (shown, *rest) if rest else shown


class _OfPart(RunWidget):
    """A view of one file of a run, wherever it is; what is in memory goes into a folder that goes with the widget."""

    def __init__(self, folder: Path, kind: str, view: str, rest: str = "", device: str | None = None) -> None:
        parts = [part for part in RunFolder(folder).parts().values() if part.kind == kind]
        if not parts:
            raise UsageError(f"{folder}: {kind} expected, found none; give the --out of the command that makes one")
        self.part = parts[0].id
        super().__init__(folder, f"/{view}/{self.part}{rest}", device)

    def _new_folder(self) -> Path:
        self._own = tempfile.TemporaryDirectory(prefix="gossamer-")
        return Path(self._own.name)


class _OfCircuit(_OfPart):
    """A view of one circuit."""

    def __init__(self, source: Source, view: str, rest: str = "", device: str | None = None) -> None:
        super().__init__(self._folder(source), "circuit", view, rest, device)

    def _folder(self, source: Source) -> Path:
        if isinstance(source, str | Path):
            return _folder_of(source)
        folder = self._new_folder()
        if isinstance(source, Findings):
            nodes = tuple(CircuitNode(node.node, node.effect) for node in source.nodes)
            facts = (source.model, source.task, source.sites, source.roles, source.edges)
            Circuit(nodes, *facts).save(folder / "circuit.json")
            source.save(folder / "findings.json")
        else:
            circuit = source if isinstance(source, Circuit) else source.circuit
            circuit.save(folder / "circuit.json")
        return folder

    @property
    def pinned(self) -> list[str]:
        """Names of the nodes that are pinned in the map."""
        return list(self.marks["pinned"])


class CircuitWidget(_OfCircuit):
    """A circuit: its map with cards, pins, groups and labels, its tables, and what the model says of what is pinned.

    Args:
        source: of :func:`gossamer.find_circuit`, findings, a circuit, or a file or folder of one.
        device: where its model is loaded when something is asked of it.
    """

    def __init__(self, source: Source, device: str | None = None) -> None:
        super().__init__(source, "circuit", device=device)

    def _repr_html_(self) -> str:
        found = self.bench.circuit(self.part)
        return found.circuit._repr_html_() if found.findings is None else CircuitMap(found.findings)._repr_html_()


class PromptWidget(_OfCircuit):
    """A text, token by token: the latents of a circuit's dictionaries by activation, and by attribution.

    Args:
        source: as of :class:`CircuitWidget`; what is given has to say where its model and dictionaries are.
        text: the text; it can be changed in the cell.
        device: where the model is loaded.
    """

    def __init__(self, source: Source, text: str, device: str | None = None) -> None:
        super().__init__(source, "prompt", f"?{urlencode({'text': text})}", device)
        asked = {"text": text, "at": -1, "target": None, "count": 12}
        self._page = self._bring(f"/api/v1/dicts/{self.part}/prompt", asked)

    def _repr_html_(self) -> str:
        rows = [
            (place, self._page["tokens"][place], site["site"], one["feature"], " ".join(one["words"]), *_numbers(one))
            for site in self._page["sites"]
            for place, token in enumerate(site["tokens"])
            for one in token["latents"][:3]
        ]
        target = self._page["target"]["word"]
        head = ("", "token", "site", "latent", "raises", "activation", f"attribution to {target}")
        return html_table(head, rows, "The strongest latents of every token")


def _folder_of(source: str | Path) -> Path:
    """A folder, or that of a file."""
    path = Path(source)
    return path.parent if path.is_file() else path


def _numbers(one: dict[str, Any]) -> tuple[Any, Any]:
    return one["activation"], one["attribution"]


class LatentWidget(_OfCircuit):
    """A latent of a circuit's dictionaries: words, histogram, examples, and where it fires in a text of one's own.

    Args:
        source: as of :class:`PromptWidget`.
        feature: the latent, or SITE/LATENT.
        device: where the model is loaded.
    """

    def __init__(self, source: Source, feature: Feature | str, device: str | None = None) -> None:
        self._feature = feature if isinstance(feature, Feature) else Feature.parse(feature)
        super().__init__(source, "latent", f"/{quote(str(self._feature), safe='')}", device)
        path = f"/api/v1/dicts/{self.part}/latent?{urlencode({'feature': str(self._feature)})}"
        self._page = self.ask(path)
        self.answers = {**self.answers, key_of(path): {"status": 200, "body": self._page}}

    def _repr_html_(self) -> str:
        card = self._page["card"]
        words = [(side, " ".join(one["word"] for one in card[side])) for side in ("promotes", "suppresses")]
        shown = [("".join(one["tokens"]), one["activation"]) for one in card["examples"]]
        said = f"{self._feature}, active on {card['density']:.2%} of {card['tokens']:,} tokens of {card['text']}"
        return html_table(("", "words"), words, said) + html_table(("example", "activation"), shown)


class AttentionWidget(_OfPart):
    """How information moved: prompts taken apart by heads and latents, with recursion along their sources.

    Args:
        source: of :func:`gossamer.attention.attribution_data`, or the `--out` of `gossamer explore`.
    """

    def __init__(self, source: AttributionData | str | Path) -> None:
        if isinstance(source, AttributionData):
            folder = self._new_folder()
            source.save(folder / "explore.json")
        else:
            folder = _folder_of(source)
        super().__init__(folder, "attribution", "attention")

    def _repr_html_(self) -> str:
        data = self.bench.content(self.part, "attribution")[1]
        return html_frame(attribution_page(data), "attribution", 820)
