"""Pursuit against the hand-worked vector, a dense reference written out token by token, and the expected ordering."""

import itertools

import pytest
import torch
from scipy.optimize import nnls

from gossamer.dictionary.config import Contents, DictionaryConfig
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.pursuit import Pursuit, pursue, refit_latents
from gossamer.dictionary.slopes import DecoderRows, LookedUp
from gossamer.errors import NotFiniteError, UsageError
from gossamer.sparse.latents import SparseLatents

D = torch.tensor([(1, 0, 0), (0.8, 0.6, 0), (0, 0, 1), (0.6, 0, 0.8)], dtype=torch.float64)
X = torch.tensor([[2, 0.6, 1]], dtype=torch.float64)


@pytest.fixture(params=["looked up", "matrix", "gram"])
def gram_bytes(request, monkeypatch):
    """Bytes for the products of all pairs; without any, slopes are looked up or, as on a GPU, a matrix."""
    if request.param == "matrix":
        monkeypatch.setattr(LookedUp, "fits", staticmethod(lambda rows: False))
    return 2**30 if request.param == "gram" else 0


def residual(x, rows, codes):
    return (x - codes.dense() @ rows).norm(dim=-1)


def by_hand(x, rows, k, *, sticky=False, start=None):
    """Gradient pursuit of one vector as the equations say it, with the whole dictionary."""
    a = torch.zeros(len(rows), dtype=x.dtype) if start is None else start.clone()
    support = set(a.nonzero()[:, 0].tolist())
    for _ in range(k):
        r = x - a @ rows
        q = rows @ r
        if not sticky:
            support = set(a.nonzero()[:, 0].tolist())
        if q.max() > 0:
            support |= {int(q.argmax())}
        if not support:
            break
        chosen = torch.tensor(sorted(support))
        g = torch.zeros_like(a).index_copy(0, chosen, q[chosen])
        c = g @ rows
        if c @ c == 0:
            break
        a = (a + (c @ r) / (c @ c) * g).clamp(min=0)
    return a


@pytest.fixture(scope="module")
def planted():
    """512 random unit rows in 64 dimensions, 8 of them active with weights from .5 to 2."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(512, 64, generator=generator, dtype=torch.float64)
    rows /= rows.norm(dim=1, keepdim=True)
    chosen = torch.stack([torch.randperm(512, generator=generator)[:8] for _ in range(400)])
    weights = 0.5 + 1.5 * torch.rand(400, 8, generator=generator, dtype=torch.float64)
    truth = torch.zeros(400, 512, dtype=torch.float64).scatter(1, chosen, weights)
    return rows, truth, truth @ rows


def test_the_vector_worked_by_hand(gram_bytes):
    rows = DecoderRows.of(D, gram_bytes)
    steps = [((2, 0, 0, 0), 1.16619), ((2, 0, 1, 0), 0.6), ((2, 0.36, 1, 0), 0.48), ((1.712, 0.36, 1, 0), 0.384)]
    for k, (values, left) in enumerate(steps, start=1):
        found = pursue(X, rows, k)
        assert found.dense()[0].tolist() == pytest.approx(values, abs=1e-12)
        assert residual(X, D, found).item() == pytest.approx(left, abs=1e-5)
    assert found.l0.item() == 3


@pytest.mark.parametrize("support", ["active", "sticky"])
def test_gradient_pursuit_is_its_equations(planted, gram_bytes, support):
    rows, _, x = planted
    found = pursue(x[:40], DecoderRows.of(rows, gram_bytes), 12, support=support).dense()
    expected = torch.stack([by_hand(one, rows, 12, sticky=support == "sticky") for one in x[:40]])
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_clipping_happens_and_both_support_rules_differ_then(gram_bytes):
    generator = torch.Generator().manual_seed(3)
    # Rows that all point much the same way: a new one makes earlier ones superfluous.
    rows = torch.rand(40, 6, generator=generator, dtype=torch.float64)
    rows /= rows.norm(dim=1, keepdim=True)
    x = torch.rand(200, 6, generator=generator, dtype=torch.float64)
    found = {rule: pursue(x, DecoderRows.of(rows, gram_bytes), 10, support=rule) for rule in ("active", "sticky")}
    for rule, codes in found.items():
        expected = torch.stack([by_hand(one, rows, 10, sticky=rule == "sticky") for one in x])
        torch.testing.assert_close(codes.dense(), expected, rtol=1e-6, atol=1e-8)
        assert (codes.values >= 0).all()
    assert not torch.allclose(found["active"].dense(), found["sticky"].dense())


def test_the_order_of_the_methods(planted):
    rows, truth, x = planted
    energy = x.square().sum()
    source = DecoderRows.of(rows)

    def unexplained(codes):
        return (residual(x, rows, codes).square().sum() / energy).item()

    found = {method: pursue(x, source, 8, method=method) for method in ("orthogonal", "gradient", "matching")}
    products, chosen = (x @ rows.T).topk(8, dim=1)
    one_shot = unexplained(SparseLatents.from_padded(products.clamp(min=0), chosen, 512))
    left = {method: unexplained(codes) for method, codes in found.items()}
    assert left["orthogonal"] <= left["gradient"] < left["matching"] < 0.2 * one_shot
    assert left["gradient"] == pytest.approx(0.008, abs=0.006)
    assert left["matching"] == pytest.approx(0.038, abs=0.012)
    assert one_shot == pytest.approx(0.697, abs=0.06)
    recovered = {name: ((codes.dense() > 0) & (truth > 0)).sum().item() / 3200 for name, codes in found.items()}
    assert min(recovered["gradient"], recovered["orthogonal"]) > 0.97


def test_matching_pursuit_is_its_equations(planted, gram_bytes):
    rows, _, x = planted
    found = pursue(x[:30], DecoderRows.of(rows, gram_bytes), 9, method="matching").dense()
    for one, codes in zip(x[:30], found, strict=True):
        a, r = torch.zeros(512, dtype=torch.float64), one.clone()
        for _ in range(9):
            q = rows @ r
            a[q.argmax()] += q.max()
            r = r - q.max() * rows[q.argmax()]
        torch.testing.assert_close(codes, a, rtol=1e-9, atol=1e-12)


def test_orthogonal_pursuit_leaves_a_residual_that_its_rows_do_not_see(planted):
    rows, _, x = planted
    found = pursue(x, DecoderRows.of(rows), 8, method="orthogonal")
    left = x - found.dense() @ rows
    seen = torch.einsum("td,twd->tw", left, rows[found.indices]) * (found.values > 0)
    assert seen.abs().max() < 1e-6
    assert (found.values >= 0).all()


def test_the_residual_never_grows(planted):
    rows, _, x = planted
    for method in ("gradient", "matching", "orthogonal"):
        left = [residual(x[:50], rows, pursue(x[:50], DecoderRows.of(rows), k, method=method)) for k in range(1, 10)]
        for earlier, later in itertools.pairwise(left):
            assert (later <= earlier + 1e-9).all()


def test_rows_of_any_norm_give_the_same_reconstruction_and_their_own_activations(planted, gram_bytes):
    rows, _, x = planted
    norms = torch.linspace(0.1, 5, 512, dtype=torch.float64)
    plain = pursue(x[:30], DecoderRows.of(rows, gram_bytes), 8)
    scaled = pursue(x[:30], DecoderRows.of(rows * norms[:, None], gram_bytes), 8)
    torch.testing.assert_close(scaled.dense() * norms, plain.dense(), rtol=1e-8, atol=1e-10)


def test_a_start_is_gone_on_from(planted, gram_bytes):
    rows, _, x = planted
    source = DecoderRows.of(rows, gram_bytes)
    begun = pursue(x[:20], source, 5)
    found = pursue(x[:20], source, 4, start=begun).dense()
    expected = torch.stack([by_hand(one, rows, 4, start=a) for one, a in zip(x[:20], begun.dense(), strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found, pursue(x[:20], source, 9).dense(), rtol=1e-8, atol=1e-10)


def test_a_token_stops_when_its_residual_is_small(planted):
    rows, _, x = planted
    found = pursue(x, DecoderRows.of(rows), 40, method="orthogonal", tolerance=0.3)
    left = residual(x, rows, found) / x.norm(dim=1)
    assert (left <= 0.3).all()
    before = pursue(x, DecoderRows.of(rows), int(found.l0.max()) - 1, method="orthogonal")
    assert (residual(x, rows, before) / x.norm(dim=1)).max() > 0.3
    assert found.l0.min() < found.l0.max() < 40


@pytest.mark.parametrize("method", ["gradient", "matching", "orthogonal"])
def test_what_no_row_points_to_has_no_code(method, gram_bytes):
    rows = torch.eye(3, dtype=torch.float64)[:2]
    x = torch.tensor([[-1.0, -2, 5], [0, 0, 0], [0, 3, 0]], dtype=torch.float64)
    found = pursue(x, DecoderRows.of(rows, gram_bytes), 2, method=method).dense()
    torch.testing.assert_close(found, torch.tensor([[0.0, 0], [0, 0], [0, 3]], dtype=torch.float64))


def test_a_row_of_norm_zero_is_never_picked():
    rows = torch.tensor([[0.0, 0], [0, 2]], dtype=torch.float64)
    found = pursue(torch.tensor([[1.0, 4]], dtype=torch.float64), DecoderRows.of(rows), 2).dense()
    assert found.tolist() == [[0, 2]]


def test_blocks_do_not_matter(planted, monkeypatch):
    rows, _, x = planted
    together = pursue(x[:50], DecoderRows.of(rows), 6)
    monkeypatch.setattr("gossamer.dictionary.pursuit._BLOCK_VALUES", 512 * 7)
    torch.testing.assert_close(pursue(x[:50], DecoderRows.of(rows), 6).dense(), together.dense(), rtol=1e-9, atol=1e-12)
    assert pursue(x[:0], DecoderRows.of(rows), 6).dense().shape == (0, 512)


def test_it_stands_where_a_dictionary_stands(tiny_gpt2):
    generator = torch.Generator().manual_seed(0)
    d = tiny_gpt2.d_model
    site = tiny_gpt2.sites("resid_post")[1]
    config = DictionaryConfig("relu", d, 4 * d, site=site, normalisation="layer_norm")
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in config.shapes.items()}
    dictionary = Dictionary.from_contents(Contents(config, tensors))
    pursuit = Pursuit(dictionary, k=6)
    tokens = tiny_gpt2.tokenize([" Mary went to the store", " John"])
    stream = tiny_gpt2.capture(tokens, [site])[site]
    normal, statistics = dictionary.normalise(stream)
    codes = pursuit.encode(stream)
    assert codes.values.shape[:2] == stream.shape[:2]
    made = dictionary.denormalise(codes.dense() @ dictionary.W_dec + dictionary.b_dec, statistics)
    torch.testing.assert_close(pursuit(stream), made, rtol=1e-5, atol=1e-5)
    flat = (normal - dictionary.b_dec).reshape(-1, d)
    torch.testing.assert_close(
        codes.dense().reshape(len(flat), -1), pursue(flat, DecoderRows.of(dictionary.W_dec), 6).dense()
    )
    with torch.no_grad(), tiny_gpt2.edit({site: pursuit}):
        edited = tiny_gpt2.logits(tokens)
    assert not torch.allclose(edited, tiny_gpt2.logits(tokens))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"k": 0}, "k from 1 to the 4 latents expected, found 0"),
        ({"k": 5}, "k from 1 to the 4 latents expected, found 5"),
        ({"method": "greedy"}, "method gradient or matching or orthogonal expected, found 'greedy'"),
        ({"support": "none"}, "support active or sticky expected, found 'none'"),
        ({"x": torch.zeros(2, 4, dtype=torch.float64)}, r"width 3 expected, found a shape of \(2, 4\)"),
    ],
)
def test_impossible_requests_are_refused(changes, says):
    arguments = {"x": X, "rows": DecoderRows.of(D), "k": 2} | changes
    with pytest.raises(UsageError, match=says):
        pursue(**arguments)


def test_a_transcoder_is_refused(tiny_gpt2):
    sites = tiny_gpt2.sites("mlp_in")[0], tiny_gpt2.sites("mlp_out")[0]
    transcoder = Dictionary(DictionaryConfig("relu", 4, 8, site=sites[0], site_out=sites[1]), device="meta")
    with pytest.raises(UsageError, match="pursuit needs a dictionary that reconstructs what it reads"):
        Pursuit(transcoder, k=2)


def test_what_is_not_finite_is_refused():
    with pytest.raises(NotFiniteError, match="vectors to pursue"):
        pursue(X * float("nan"), DecoderRows.of(D), 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("twins", ["beside", "behind"])
def test_of_equal_rows_the_first_is_picked_whatever_stands_in_the_batch(gram_bytes, twins, dtype):
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(300, 37, generator=generator, dtype=dtype)
    rows = half.repeat_interleave(2, dim=0) if twins == "beside" else torch.cat([half, half])
    first = torch.arange(600) % 2 == 0 if twins == "beside" else torch.arange(600) < 300
    source, x = DecoderRows.of(rows, gram_bytes), torch.randn(60, 37, generator=generator, dtype=dtype)
    together = pursue(x, source, 8).dense()
    assert not together[:, ~first].any()
    alone = torch.cat([pursue(one[None], source, 8).dense() for one in x])
    assert torch.equal(alone > 0, together > 0)


@pytest.mark.parametrize("d", [16, 64])
def test_equal_rows_are_told_apart_by_no_rounding(gram_bytes, d):
    """In these sizes the products of equal rows differ in their last digit."""
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(4 * d, d, generator=generator, dtype=torch.float64)
    x = torch.randn(60, d, generator=generator, dtype=torch.float64)
    found = pursue(x, DecoderRows.of(torch.cat([half, half]), gram_bytes), d // 4).dense()
    assert not found[:, 4 * d :].any()


def test_single_precision_goes_on_where_sums_of_changes_leave_no_residual(gram_bytes):
    """Every orthogonal step takes one of 64 dimensions; before the last, sums of changes have no digit left of it."""
    generator = torch.Generator().manual_seed(0)
    rows, x = torch.randn(512, 64, generator=generator), torch.randn(100, 64, generator=generator)
    whole = pursue(x.double(), DecoderRows.of(rows.double(), gram_bytes), 64, method="orthogonal").l0.double().mean()
    found = pursue(x, DecoderRows.of(rows, gram_bytes), 64, method="orthogonal")
    assert found.l0.double().mean() > whole - 1
    assert (residual(x, rows, found) / x.norm(dim=1)).median() < 1.5e-5


@pytest.mark.parametrize("spread", [0.3, 0.1])
def test_refitting_in_a_narrow_cone_is_non_negative_least_squares(spread):
    generator = torch.Generator().manual_seed(0)
    rows = torch.ones(24, dtype=torch.float64) + spread * torch.randn(200, 24, generator=generator, dtype=torch.float64)
    chosen = torch.stack([torch.randperm(200, generator=generator)[:16] for _ in range(200)])
    x = torch.ones(24, dtype=torch.float64) + spread * torch.randn(200, 24, generator=generator, dtype=torch.float64)
    found = refit_latents(x, DecoderRows.of(rows), SparseLatents.from_padded(torch.ones(200, 16).double(), chosen, 200))
    left = residual(x, rows, found)
    for one, latents, ours in zip(x, chosen, left, strict=True):
        _, best = nnls(rows[latents].T.numpy(), one.numpy())
        assert ours.item() == pytest.approx(best, rel=1e-6)
    assert not (found.values < 0).any()
