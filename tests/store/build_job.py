"""Stores built in processes of their own that can be killed (SIGKILL) at a moment: `python build_job.py FOLDER`.

Python and torch are imported once; every job is a fork of that. The parent computes nothing, because a fork does not
survive the threads of torch.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "training"), str(ROOT / "store")]

import torch  # noqa: E402
from processes import at_file, finished, full, killed, started  # noqa: E402
from store_fixtures import SETTINGS, dictionaries, texts  # noqa: E402
from word_model import tiny_gpt2_model, word_tokenizer  # noqa: E402

from gossamer.model import LanguageModel  # noqa: E402
from gossamer.store import FeatureStore, build_store  # noqa: E402


def built(folder):
    """Build a store."""
    torch.set_num_threads(1)
    tokenizer = word_tokenizer()
    model = LanguageModel.load(tiny_gpt2_model(tokenizer), tokenizer=tokenizer)
    build_store(model, dictionaries(), texts(8), folder, settings=replace(SETTINGS, shard_tokens=40))


def read(folder):
    """Ask a store for all it has."""
    with FeatureStore(folder) as store:
        assert len(store.sql("SELECT * FROM activations")) == store.manifest.entries


def main(folder):
    """All that the tests look at, each in a folder of its own."""
    assert finished(built, folder / "whole") == 0
    moments = ["by_latent/*", "by_latent/000002*", "statistics/*", "words/.*.part"]
    target = folder / "killed"
    print([killed(built, target, at_file(pattern)) for pattern in moments], finished(built, target))
    sys.stdout.flush()
    readers = [started(read, folder / "whole") for _ in range(2)]
    print([os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]) for reader in readers])
    sys.stdout.flush()
    size = (folder / "whole" / "by_latent" / "000000.parquet").stat().st_size
    print(full(built, folder / "full", size - 1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
