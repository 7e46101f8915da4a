"""Jobs in processes of their own that can be killed (SIGKILL) at a moment: `python processes.py FOLDER`.

Python and torch are imported once; every job is a fork of that. The parent computes nothing, because a fork does not
survive the threads of torch.
"""

import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "training")]

import torch  # noqa: E402
from training_fixtures import CONFIG, plans, texts, with_fit  # noqa: E402
from word_model import tiny_gpt2_model, word_tokenizer  # noqa: E402

from gossamer.activations.corpus import Corpus, split_texts  # noqa: E402
from gossamer.model import LanguageModel, Site  # noqa: E402
from gossamer.training import checkpoint, metrics  # noqa: E402
from gossamer.training.buffer import OnTheFly  # noqa: E402
from gossamer.training.cache import manifest, write_cache  # noqa: E402
from gossamer.training.fit import fit  # noqa: E402

SITES = [Site("resid_post", 0), Site("resid_post", 1)]
FIT = with_fit(tokens=64 * 150, checkpoint_every=16, cache_dtype="float32")


def _made():
    torch.set_num_threads(1)
    tokenizer = word_tokenizer()
    model = LanguageModel.load(tiny_gpt2_model(tokenizer), tokenizer=tokenizer)
    return model, Corpus.build(model, *split_texts(texts(), CONFIG.corpus, seed=0), CONFIG.corpus, seed=0)


def cached(folder):
    """Write three shards."""
    write_cache(OnTheFly(*_made(), SITES, with_fit(), seed=0), 3, "float32", folder)


def fitted(folder, cache=None):
    """Train two dictionaries."""
    fit(*_made(), plans(SITES), FIT, folder, seed=0, cache=cache)


def fitted_from_a_cache(folder):
    """Train two dictionaries on a cache that is written first."""
    fitted(folder, folder / "cache")


def started(job, folder, output=None):
    """The process of a job."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        job(folder)
        status = 0
    except BaseException:
        (output or folder.with_suffix(".error")).write_text(traceback.format_exc())
    finally:
        os._exit(status)


def finished(job, folder):
    """Run a job to its end; returns its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(started(job, folder), 0)[1])


def killed(job, folder, moment):
    """Run a job and kill it as soon as `moment(folder)` holds; returns its exit status, -9 if it was in time."""
    child = started(job, folder)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if moment(folder):
            os.kill(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.001)
    return 0


def full(job, folder, size):
    """Run a job where no file grows beyond `size` bytes, as on a disk that is full by then; returns its exit status."""

    def limited(target):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        try:
            job(target)
        except Exception as error:
            print(f"full: {error}")
            sys.stdout.flush()
            raise

    return os.waitstatus_to_exitcode(os.waitpid(started(limited, folder, Path(os.devnull)), 0)[1])


def at_step(step):
    """The moment at which metrics.jsonl has a line of that step or a later one."""
    return lambda folder: any(line["step"] >= step for line in metrics.read(folder))


def at_file(pattern):
    """The moment at which such a file exists."""
    return lambda folder: any(True for _ in folder.glob(pattern))


def main(folder):
    """All that the tests look at, each in a folder of its own."""
    for job in (cached, fitted, fitted_from_a_cache):
        assert finished(job, folder / job.__name__) == 0, job
    shard = f"{manifest.shard_name(0)}"
    moments = {
        cached: [at_file(shard), at_file(manifest.FILE), at_file(manifest.shard_name(1)), at_file(".*.part")],
        fitted: [at_step(0), at_file(checkpoint.FILE), at_step(45), at_file(".checkpoint*.part"), at_step(100)],
        fitted_from_a_cache: [at_file(f"cache/{shard}"), at_file(f"cache/{manifest.shard_name(2)}"), at_step(60)],
    }
    for job, several in moments.items():
        target = folder / f"killed-{job.__name__}"
        print(job.__name__, [killed(job, target, moment) for moment in several], finished(job, target))
        sys.stdout.flush()
    size = (folder / "cached" / shard).stat().st_size
    print(full(cached, folder / "full-cached", size - 1))
    print(full(fitted, folder / "full-fitted", 4000))
    print(full(fitted, folder / "full-metrics", 100))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
