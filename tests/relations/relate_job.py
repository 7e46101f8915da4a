"""Relations counted in processes of their own that can be killed (SIGKILL) at a moment: `python relate_job.py FOLDER`.

Python is imported once; every job is a fork of that.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "training"), str(ROOT / "relations")]

from planted_relations import given, planted  # noqa: E402
from processes import at_file, finished, killed  # noqa: E402
from rich.console import Console  # noqa: E402

from gossamer.progress import progress_bars  # noqa: E402
from gossamer.relations import ActiveAbove, SitePair, relate_in_folder  # noqa: E402
from gossamer.results import folder_lock  # noqa: E402


def related(folder):
    """Relate two sites, with a pass for relative thresholds."""
    up, down = planted(rows=60)
    pairs = [SitePair("up", "down"), SitePair("down", "up")]
    with folder_lock(folder), progress_bars(Console(stderr=True)):
        stream = given({"up": up, "down": down}, batch_size=5)
        relate_in_folder(stream, pairs, folder, activity=ActiveAbove(relative=0.2), block_rows=10)


def main(folder):
    """All that the tests look at, each in a folder of its own."""
    assert finished(related, folder / "whole") == 0
    moments = [
        "blocks/maxima-000001/*",
        "blocks/counts-000000/0-counts*",
        "blocks/counts-000003/sums*",
        "up-down.relation*",
    ]
    target = folder / "killed"
    print([killed(related, target, at_file(pattern)) for pattern in moments], finished(related, target))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
