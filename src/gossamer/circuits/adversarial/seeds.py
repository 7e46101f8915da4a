"""The same study with several seeds: other words, prompts and searches each time. How often does the circuit help?"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gossamer.circuits.adversarial.prompt_record import FILE as PROMPTS
from gossamer.circuits.adversarial.results import NAMES, RIVALS, AdversarialResults
from gossamer.circuits.adversarial.settings import AdversarialSettings
from gossamer.circuits.adversarial.study import adversarial_study
from gossamer.circuits.adversarial.worst import WorstCaseSettings
from gossamer.circuits.circuit import Circuit
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import SiteMapping
from gossamer.results import Older, Recorder, record_format, versions

# Rows of version 1 are results of version 1 or 2, those of version 2 results of version 3.
FORMAT = record_format(
    "gossamer.adversarial_seeds",
    3,
    AdversarialResults,
    "adversarial results of several seeds",
    {f"gossamer.adversarial_seeds.{version}": Older(lambda body: body) for version in (1, 2)},
)
RESULTS = "seeds.json"


@dataclass(frozen=True)
class SeedStudy:
    """What studies with successive seeds found. Their held-out prompts are drawn from the same words of the task."""

    results: tuple[AdversarialResults, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.results[0].task} in {self.results[0].model}"
        yield self.verdict

    @property
    def verdict(self) -> str:
        """In how many seeds the circuit helped."""
        of = len(self.results)
        return (
            f"With {sum(one.adds for one in self.results)} of {plural(of, 'seed')} the circuit is ahead of "
            f"{', '.join(RIVALS[:-1])} and {RIVALS[-1]} by more than chance."
        )

    def rows(self) -> list[tuple[str, ...]]:
        """What the recipe of every arm breaks with each seed, their mean, and in how many seeds the circuit is ahead of
        it by both tests; names of the columns first."""
        seeds = [one.settings["seed"] for one in self.results]
        head = ("arm", *(f"seed {seed}" for seed in seeds), "mean", "circuit ahead of it")
        return [head, *map(self._row, NAMES)]

    def _row(self, letter: str) -> tuple[str, ...]:
        arms = [one.arm(letter) for one in self.results]
        shares = [arm.broken.value for arm in arms]
        tests = [other.ahead for one in self.results for other in one.comparisons if other.letter == letter]
        counts = (f"{sum(arm.held_out)} of {len(arm.held_out)}" for arm in arms)
        ahead = f"{sum(tests)} of {len(tests)}" if tests else ""
        return f"{letter} {NAMES[letter]}", *counts, f"{sum(shares) / len(shares):.0%}", ahead


def seed_folder(folder: str | Path, seed: int) -> Path:
    """Where the files of one seed lie."""
    return Path(folder) / f"seed-{seed}"


def study_seeds(
    circuit: Circuit,
    model: LanguageModel,
    dictionaries: SiteMapping[Dictionary],
    seeds: int,
    folder: str | Path,
    *,
    settings: AdversarialSettings | None = None,
    worst: WorstCaseSettings | None = None,
) -> SeedStudy:
    """Studies with `seeds` successive seeds from that of the settings; those that `folder` has are not done again.

    Args:
        circuit, model, dictionaries, settings: as of :func:`adversarial_study`.
        seeds: how many.
        folder: gets seeds.json, and each seed's prompts in a folder of its own. Hold it with
            :func:`gossamer.results.folder_lock` meanwhile.
        worst: how the worst case of the circuit is sought, with the first seed alone.

    Raises:
        UsageError: fewer than one seed, a folder of another study, and as :func:`adversarial_study`.
        GossamerError: as there.
    """
    if seeds < 1:
        raise UsageError(f"seeds: at least 1 expected, found {seeds}")
    settings = settings or AdversarialSettings()
    facts = {"circuit": circuit.sha256, **asdict(settings), "worst": None if worst is None else asdict(worst)}
    recorder = Recorder(Path(folder) / RESULTS, FORMAT, facts, {"versions": versions()})
    for number in range(len(recorder.rows), seeds):
        own = replace(settings, seed=settings.seed + number)
        once = worst if number == 0 else None
        kept = seed_folder(folder, own.seed) / PROMPTS
        recorder.add(adversarial_study(circuit, model, dictionaries, settings=own, worst=once, prompts_file=kept))
    return SeedStudy(tuple(recorder.rows[:seeds]))
