"""One stream through a model: the same whatever its batches, checked, and halved when memory runs out."""

import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import torch

from gossamer.activations import ActivationStream, TokenMask
from gossamer.batching import MemoryWarning
from gossamer.errors import GossamerError, NotFiniteError, UsageError
from gossamer.model import Site
from gossamer.tokens import Tokens

EARLY, LATE = Site("resid_post", 0), Site("mlp_out", 2)


@pytest.fixture
def tokens():
    """Ten rows of different lengths, some with BOS."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 40, (10, 7), generator=draw)
    return Tokens(ids, torch.arange(7) < torch.randint(2, 8, (10, 1), generator=draw))


def test_batches_hold_what_one_capture_of_all_rows_holds(tiny_gpt2, tokens):
    whole = tiny_gpt2.capture(tokens, [EARLY, LATE])
    counted = tokens.mask & (tokens.ids != 0)
    for size in (1, 3, 10, 64):
        parts = ActivationStream(tiny_gpt2, tokens, [EARLY, LATE], batch_size=size).map(lambda batch: batch)
        assert [part.rows.start for part in parts] == list(range(0, 10, size))
        assert torch.equal(torch.cat([part.tokens.ids for part in parts]), tokens.ids)
        assert torch.equal(torch.cat([part.mask for part in parts]), counted)
        for site, expected in whole.items():
            assert torch.allclose(torch.cat([part.at(site) for part in parts]), expected, atol=1e-6)
            assert torch.allclose(torch.cat([part.counted(site) for part in parts]), expected[counted], atol=1e-6)


def test_collected_and_averaged_activations_are_those_of_the_tokens_that_count(tiny_gpt2, tokens):
    whole, counted = tiny_gpt2.capture(tokens, [LATE])[LATE], tokens.mask & (tokens.ids != 0)
    for size in (1, 4, 16):
        stream = ActivationStream(tiny_gpt2, tokens, [LATE], batch_size=size)
        assert torch.allclose(stream.collect()[LATE], whole[counted], atol=1e-6)
        assert stream.collect(torch.float64)[LATE].dtype == torch.float64
        assert torch.allclose(stream.means()[LATE], whole[counted].double().mean(dim=0), atol=1e-7)


def test_what_a_first_map_read_is_kept_where_that_is_asked_for_and_small(tiny_gpt2, tokens, monkeypatch):
    passes = []

    def seen(x):
        passes.append(len(x))
        return x

    def run(**more):
        passes.clear()
        stream = ActivationStream(tiny_gpt2, tokens, [EARLY, LATE], batch_size=4, **more)
        means = stream.means([LATE])
        parts = replace(stream, what="again").map(lambda batch: batch.values)
        return means, {site: torch.cat([part[site] for part in parts]) for site in (EARLY, LATE)}

    with tiny_gpt2.edit({EARLY: seen}):
        expected, values = run()
        assert passes == [4, 4, 2] * 2
        found, kept = run(keep=True)
        assert passes == [4, 4, 2]
        assert all(torch.equal(kept[site], values[site]) for site in kept)
        assert torch.equal(found[LATE], expected[LATE])
        monkeypatch.setattr("gossamer.activations.stream._KEPT", 10 * 7 * 2 * 32 * 4 - 1)
        run(keep=True)
        assert passes == [4, 4, 2] * 2


@pytest.mark.parametrize("side", ["right", "left"])
def test_rows_cut_to_the_longest_of_their_batch_have_the_same_activations(tiny_gpt2, side):
    """On the left padding is not cut: positions would begin elsewhere."""
    tokens = tiny_gpt2.tokenize([" Mary", " Mary went to the store", " John and", " to"] * 2, bos=True, side=side)
    expected = ActivationStream(tiny_gpt2, tokens, [EARLY, LATE], batch_size=3).collect()
    shapes = []

    def seen(x):
        shapes.append(x.shape[:2])
        return x

    stream = ActivationStream(tiny_gpt2, tokens, [EARLY, LATE], batch_size=3, trimmed=True)
    with tiny_gpt2.edit({EARLY: seen}):
        found = stream.collect()
    for site, values in expected.items():
        torch.testing.assert_close(found[site], values, atol=1e-5, rtol=1e-5)
    assert shapes == ([(3, 6), (3, 3), (2, 2)] if side == "right" else [(3, 6), (3, 6), (2, 6)])
    ids = torch.cat(stream.map(lambda batch: batch.tokens.ids[batch.tokens.mask]))
    assert torch.equal(ids, tokens[stream.order].ids[tokens[stream.order].mask])


def test_a_caller_may_choose_the_tokens_itself(tiny_gpt2, tokens):
    chosen = torch.zeros_like(tokens.mask)
    chosen[:, 1] = chosen[:, 6] = True
    found = ActivationStream(tiny_gpt2, tokens, [EARLY], mask=chosen, batch_size=4).collect()[EARLY]
    expected = tiny_gpt2.capture(tokens, [EARLY])[EARLY][chosen & tokens.mask]
    assert torch.allclose(found, expected, atol=1e-6)
    every = ActivationStream(tiny_gpt2, tokens, [EARLY], mask=TokenMask(bos=True)).collect()[EARLY]
    assert len(every) == int(tokens.mask.sum())


def test_values_that_are_not_finite_are_named_by_their_site(tiny_gpt2, tokens):
    def spoiled(x):
        return torch.where(((tokens.ids == 0) & tokens.mask)[:, :, None], torch.inf, x)

    assert (tokens.ids == 0)[tokens.mask].any()
    stream = ActivationStream(tiny_gpt2, tokens, [EARLY], batch_size=16)
    with tiny_gpt2.edit({EARLY: spoiled}):
        # What does not count says nothing of what does.
        assert torch.isfinite(stream.collect()[EARLY]).all()
        with pytest.raises(NotFiniteError, match=r"activations at resid_post\.0: .* found inf"):
            stream.map(lambda batch: batch.at(EARLY))
    with (
        tiny_gpt2.edit({LATE: lambda x: x * torch.nan}),
        pytest.raises(NotFiniteError, match=r"activations at mlp_out\.2"),
    ):
        ActivationStream(tiny_gpt2, tokens, [EARLY, LATE]).means()


def test_gradients_are_kept_where_they_are_asked_for(tiny_gpt2, tokens):
    def norm(batch):
        return batch.values[LATE].square().sum()

    plain = ActivationStream(tiny_gpt2, tokens, [EARLY, LATE])
    with torch.enable_grad():
        assert not plain.map(norm)[0].requires_grad
    kept = ActivationStream(tiny_gpt2, tokens, [EARLY, LATE], gradients=True, batch_size=4)
    with tiny_gpt2.edit({EARLY: lambda x: x.detach().requires_grad_()}):
        found = kept.map(lambda batch: torch.autograd.grad(norm(batch), batch.values[EARLY])[0])
    scale = torch.ones(10, 7, 32, requires_grad=True)
    with tiny_gpt2.edit({EARLY: lambda x: x + (scale - 1)}):
        (expected,) = torch.autograd.grad(tiny_gpt2.capture(tokens, [LATE])[LATE].square().sum(), scale)
    assert torch.allclose(torch.cat(found), expected, atol=1e-4)


def test_progress_is_told_row_by_row(tiny_gpt2, tokens, monkeypatch):
    told = []
    monkeypatch.setattr("gossamer.activations.stream.begin", lambda *work: lambda *done: told.append((*work, *done)))
    ActivationStream(tiny_gpt2, tokens, [EARLY], batch_size=6).map(lambda batch: None)
    assert told == []
    ActivationStream(tiny_gpt2, tokens, [EARLY], batch_size=6, what="looking").map(lambda batch: None)
    assert told == [("looking", 10, 6, ""), ("looking", 10, 4, "")]


def test_a_batch_is_halved_and_stays_so_for_the_same_work_on_the_same_rows(tiny_gpt2, tokens):
    sizes = []

    def hungry(batch):
        sizes.append(len(batch.tokens))
        if len(batch.tokens) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return batch.counted(EARLY)

    stream = ActivationStream(tiny_gpt2, tokens, [EARLY], batch_size=8)
    with pytest.warns(MemoryWarning, match="halved from 8 to 4"):
        found = torch.cat(stream.map(hungry))
    assert torch.allclose(found, stream.collect()[EARLY], atol=1e-6)
    assert sizes == [8, 4, 4, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stream.map(hungry)
        # Other sites or shorter rows need less.
        with pytest.raises(MemoryWarning, match="halved from 8"):
            ActivationStream(tiny_gpt2, tokens, [EARLY, LATE], batch_size=8).map(hungry)
        with pytest.raises(MemoryWarning, match="halved from 8"):
            ActivationStream(tiny_gpt2, tokens.cut(3), [EARLY], batch_size=8).map(hungry)


LIMITED = """
import resource, sys, warnings
sys.path.insert(0, sys.argv[1])
import torch
from word_model import tiny_gpt2_model, word_tokenizer
from gossamer.activations import ActivationStream
from gossamer.model import LanguageModel, Site
from gossamer.tokens import Tokens

torch.set_num_threads(1)
tokenizer, site = word_tokenizer(), Site("resid_post", 0)
model = LanguageModel.load(tiny_gpt2_model(tokenizer), tokenizer=tokenizer)
stream = ActivationStream(model, Tokens.full(torch.arange(64).reshape(16, 4)), [site])
plain = stream.collect()[site]
# What an error itself needs, torch's libraries with their symbols among it, is there before the limit is set.
try:
    torch.empty(2**60, dtype=torch.uint8)
except RuntimeError:
    pass
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 3 * 2**28, used + 3 * 2**28))

def hungry(x):
    torch.empty(len(x) * 2**28, dtype=torch.uint8)
    return x

def work(batch):
    hungry(batch.tokens)
    return batch.counted(site)

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    in_work = stream.map(work)
    with model.edit({site: hungry}):
        in_capture = stream.map(lambda batch: batch.counted(site))
for parts in (in_work, in_capture):
    assert torch.allclose(torch.cat(parts), plain, atol=1e-6)
    assert max(len(part) for part in parts) <= 8, [len(part) for part in parts]
print(len(caught))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of address space are Linux's")
def test_a_real_failure_to_allocate_in_the_model_or_in_the_work_changes_no_result(request):
    """Three quarters of a gibibyte more than is in use, and a quarter a row: two rows fit at most."""
    folder = str(request.config.rootpath / "tests")
    found = subprocess.run([sys.executable, "-c", LIMITED, folder], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) >= 6


def test_one_row_that_does_not_fit_is_an_error(tiny_gpt2, tokens):
    def hungry(batch):
        raise MemoryError

    with pytest.raises(GossamerError, match="batch of one"), pytest.warns(MemoryWarning):
        ActivationStream(tiny_gpt2, tokens, [EARLY]).map(hungry)


def test_no_mean_is_taken_over_nothing(tiny_gpt2):
    with pytest.raises(UsageError, match="tokens besides BOS, padding and attention sinks expected"):
        ActivationStream(tiny_gpt2, Tokens.full(torch.zeros(3, 2, dtype=torch.long)), [EARLY]).means()


def test_what_cannot_run_is_refused(tiny_gpt2, tokens):
    with pytest.raises(UsageError, match="at least 1 row expected, found 0"):
        ActivationStream(tiny_gpt2, tokens, [EARLY], batch_size=0)
    with pytest.raises(UsageError, match="at least one row of tokens expected, found none"):
        ActivationStream(tiny_gpt2, tokens[:0], [EARLY])
    with pytest.raises(UsageError, match=r"shape \(10, 7\) expected, found \(9, 7\)"):
        ActivationStream(tiny_gpt2, tokens, [EARLY], mask=tokens.mask[1:])
    with pytest.raises(UsageError, match="layer"):
        ActivationStream(tiny_gpt2, tokens, [Site("resid_post", 9)]).means()
