"""From a run's folder to a repository on the hub, in one commit: all of it or nothing."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.results import Findings
from gossamer.dictionary.set import INDEX, DictionarySet
from gossamer.display import plural, short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.hub.cards import circuit_card, dictionaries_card

CARD = "README.md"
CIRCUIT, FINDINGS = "circuit.json", "findings.json"
# What a run of `circuit` leaves beside them.
_BESIDE = ("graph.json", "report.html")
_REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


@dataclass(frozen=True)
class Upload:
    """What would go to a repository.

    Attributes:
        repository: as `owner/name`.
        kind: "dictionaries" or "circuit".
        files: where each lies here, by its path there.
        card: the text of its README.md.
    """

    repository: str
    kind: str
    files: Mapping[str, Path]
    card: str

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.kind} to {self.repository}"
        yield f"{plural(len(self.files), 'file')} and a card, {self.nbytes:,} bytes"

    @property
    def nbytes(self) -> int:
        """Size of the files."""
        return sum(path.stat().st_size for path in self.files.values())

    def send(self, *, private: bool = False) -> str:
        """Make the repository if it is not there, and commit; returns the address of the commit.

        Files of these names that are there already are replaced, others stay.

        Raises:
            GossamerError: nobody is logged in, the hub refused, or it cannot be reached.
        """
        hub = HfApi()
        operations = [
            CommitOperationAdd(CARD, self.card.encode()),
            *(CommitOperationAdd(name, str(path)) for name, path in self.files.items()),
        ]
        try:
            hub.create_repo(self.repository, private=private, exist_ok=True)
            done = hub.create_commit(self.repository, operations, commit_message=f"gossamer: {self.kind}")
        # Without a connection it raises what its HTTP library raises, which is another one in other versions.
        except Exception as error:
            raise GossamerError(f"{self.repository}: not uploaded, {_reason(error)}") from error
        return str(done.commit_url)


def _reason(error: Exception) -> str:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status == 401 or isinstance(error, LocalTokenNotFoundError):
        return "as the hub does not know who asks; run 'hf auth login' with a token that may write"
    return f"no file there was changed: {' '.join(str(error).split())[:400]}"


def prepare(folder: str | Path, repository: str, *, license: str | None = None) -> Upload:
    """What of a folder would be uploaded: a saved set of dictionaries, or a circuit with what was found of it.

    Args:
        folder: of a training run or a saved set; or the --out of `gossamer circuit`.
        repository: `owner/name` on the hub.
        license: as the hub names it, for the card.

    Raises:
        UsageError: no such folder, neither of the two in it, or a malformed repository.
        GossamerError: a file is damaged, or was changed after it was saved.
    """
    if _REPOSITORY.fullmatch(repository) is None:
        raise UsageError(f"{repository!r}: a repository as OWNER/NAME expected")
    given = Path(folder)
    if (given / CIRCUIT).is_file():
        return _of_circuit(given, repository, license)
    saved = next((one for one in (given, given / "dictionaries") if (one / INDEX).is_file()), None)
    if saved is None:
        raise UsageError(
            f"{folder}: {CIRCUIT} or {INDEX} expected, found neither; give the --out of 'gossamer circuit' or of "
            "'gossamer train'"
        )
    dictionaries = DictionarySet.load(saved)
    names = [f"{site}/{name}" for site in dictionaries for name in ("cfg.json", "sae_weights.safetensors")]
    files = {name: saved / name for name in (INDEX, *names)}
    return Upload(repository, "dictionaries", files, dictionaries_card(dictionaries, repository, license))


def _of_circuit(folder: Path, repository: str, license: str | None) -> Upload:
    circuit = Circuit.load(folder / CIRCUIT)
    findings = Findings.load(folder / FINDINGS) if (folder / FINDINGS).is_file() else None
    found = [name for name in (CIRCUIT, FINDINGS, *_BESIDE) if (folder / name).is_file()]
    card = circuit_card(circuit, findings, repository, license)
    return Upload(repository, "circuit", {name: folder / name for name in found}, card)
