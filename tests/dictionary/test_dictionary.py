"""The two equations, the exactness of columns, sparse decoding, gradients, memory."""

import pytest
import torch

from gossamer.dictionary import Dictionary, DictionaryConfig, dictionary
from gossamer.dictionary.config import ARCHITECTURES, NORMALISATIONS
from gossamer.errors import UsageError
from gossamer.model.site import Site

EACH = pytest.mark.parametrize("architecture", ARCHITECTURES)
ENCODER_NAMES = ("W_enc", "b_enc", "threshold", "b_gate", "b_mag", "r_mag")


def by_hand(sae, vector):
    """Activations and reconstruction of one token, one latent at a time, in float64."""
    w = {name: parameter.double() for name, parameter in sae.named_parameters()}
    d, v = sae.d_in, vector.double()
    shift, scale, divisor = torch.zeros(()), torch.ones(()), torch.ones(())
    if sae.config.normalisation in ("centre", "layer_norm"):
        shift = v.sum() / d
    if sae.config.normalisation == "layer_norm":
        scale = (((v - shift) ** 2).sum() / (d - 1)) ** 0.5
        divisor = scale + 1e-5
    if sae.config.normalisation == "constant_norm_rescale":
        scale = divisor = (v**2).sum() ** 0.5 / d**0.5
    v = (v - shift) / divisor - (w["b_dec"] if sae.config.subtract_b_dec else 0)
    acts = torch.zeros(sae.n_latents, dtype=torch.float64)
    projection = [v.dot(w["W_enc"][:, j]) for j in range(sae.n_latents)]
    pre = [p + (w["b_enc"][j] if "b_enc" in w else 0) for j, p in enumerate(projection)]
    chosen = sorted(range(sae.n_latents), key=lambda j: -pre[j])[: sae.k] if sae.architecture == "topk" else []
    for j, p in enumerate(pre):
        if sae.architecture == "gated" and projection[j] + w["b_gate"][j] > 0:
            acts[j] = max(0, projection[j] * w["r_mag"][j].exp() + w["b_mag"][j])
        threshold = {"jumprelu": lambda j=j: w["threshold"][j], "batchtopk": lambda: w["threshold"]}.get(
            sae.architecture
        )
        if (
            sae.architecture == "relu"
            or (threshold is not None and p > threshold())
            or (sae.architecture == "topk" and j in chosen)
        ):
            acts[j] = max(0, p)
    out = sum(acts[j] * w["W_dec"][j] for j in range(sae.n_latents)) + w["b_dec"]
    return acts, out * scale + shift


@EACH
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("subtract_b_dec", [False, True])
def test_the_two_equations(make, x, architecture, normalisation, subtract_b_dec):
    sae = make(architecture, normalisation=normalisation, subtract_b_dec=subtract_b_dec)
    acts, out = by_hand(sae, x[1, 2])
    assert 0 < (acts > 0).sum() < sae.n_latents
    torch.testing.assert_close(sae.encode_dense(x)[1, 2], acts.float(), atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(sae(x)[1, 2], out.float(), atol=5e-6, rtol=1e-5)


@EACH
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_columns_are_exact(make, x, architecture, normalisation):
    for seed, count in enumerate([0, 1, 7, 40]):
        sae = make(architecture, normalisation=normalisation, subtract_b_dec=True, seed=seed, dtype=torch.float64)
        columns = torch.randperm(sae.n_latents, generator=torch.Generator().manual_seed(seed))[:count]
        full = sae.encode_dense(x.double())
        torch.testing.assert_close(sae.encode_dense(x.double(), columns), full[..., columns], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - {"topk"}))
def test_columns_touch_only_their_weights(make, x, architecture):
    sae, columns = make(architecture), torch.tensor([3, 1, 30])
    expected = sae.encode_dense(x, columns)
    others = torch.ones(sae.n_latents, dtype=torch.bool)
    others[columns] = False
    for name in ENCODER_NAMES:
        parameter = getattr(sae, name)
        if parameter is not None and parameter.ndim > 0:
            parameter[..., others] = float("nan")
    sae.W_dec.fill_(float("nan"))
    assert torch.equal(sae.encode_dense(x, columns), expected)


@EACH
def test_sparse_and_dense_agree(make, x, architecture):
    sae = make(architecture)
    latents, dense = sae.encode(x), sae.encode_dense(x)
    torch.testing.assert_close(latents.dense(), dense)
    torch.testing.assert_close(sae.decode(latents), sae.decode(dense), atol=2e-6, rtol=1e-5)
    assert torch.equal(latents.l0, (dense > 0).sum(-1))
    width = latents.values.shape[-1]
    assert width == (sae.k if architecture == "topk" else (dense > 0).sum(-1).max())


@EACH
def test_decoding_columns_counts_the_others_as_zero(make, x, architecture):
    sae, columns = make(architecture), torch.tensor([0, 9, 17])
    dense = sae.encode_dense(x)
    rest = torch.ones(sae.n_latents, dtype=torch.bool)
    rest[columns] = False
    torch.testing.assert_close(sae.decode(dense[..., columns], columns), sae.decode(dense.masked_fill(rest, 0)))
    with pytest.raises(UsageError, match="columns belong to dense"):
        sae.decode(sae.encode(x), columns)


@EACH
def test_blocks_do_not_change_the_result(make, x, architecture, monkeypatch):
    sae = make(architecture)
    whole = sae.encode(x)
    monkeypatch.setattr(dictionary, "_BLOCK_VALUES", 4 * sae.n_latents)
    torch.testing.assert_close(sae.encode(x).dense(), whole.dense())


@pytest.mark.parametrize(
    ("architecture", "normalisation"),
    [*((each, "none") for each in ARCHITECTURES), *(("relu", each) for each in NORMALISATIONS[1:])],
)
def test_gradient_is_that_of_finite_differences(make, x, architecture, normalisation):
    sae = make(architecture, normalisation=normalisation, subtract_b_dec=True, dtype=torch.float64)
    some = x[0, :1].double().requires_grad_()
    assert torch.autograd.gradcheck(sae, some, eps=1e-7, atol=1e-5)
    columns = torch.tensor([2, 5, 11])
    assert torch.autograd.gradcheck(lambda v: sae.encode_dense(v, columns), some, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("architecture", ["jumprelu", "batchtopk"])
def test_gradient_is_masked_without_straight_through(make, x, architecture):
    sae, some = make(architecture), x[0].clone().requires_grad_()
    sae.encode_dense(some).sum().backward()
    active = (sae.encode_dense(x[0]) > 0).float()
    torch.testing.assert_close(some.grad, active @ sae.W_enc.T)


@pytest.mark.parametrize("architecture", ["jumprelu", "batchtopk"])
def test_what_is_exactly_at_its_threshold_is_not_active(make, architecture):
    sae = make(architecture)
    with torch.no_grad():
        for name in ("W_enc", "b_enc", "b_dec"):
            getattr(sae, name).zero_()
        sae.b_enc.copy_(torch.linspace(0.25, 2, sae.n_latents))
        sae.threshold.copy_(sae.b_enc if architecture == "jumprelu" else sae.b_enc[3])
    above = torch.arange(sae.n_latents) > (sae.n_latents if architecture == "jumprelu" else 3)
    x = torch.ones(2, len(sae.W_enc))
    for found in (sae.encode_dense(x), sae.encode(x).dense()):
        torch.testing.assert_close(found, (sae.b_enc * above).expand(2, -1))


@EACH
def test_nan_stays_visible(make, x, architecture):
    x[0, 0, 0] = float("nan")
    assert make(architecture).encode_dense(x)[0, 0].isnan().any()


@EACH
def test_half_precision_weights(make, x, architecture):
    sae = make(architecture)
    exact = sae(x)
    out = make(architecture).to(torch.bfloat16)(x)
    assert out.dtype == x.dtype
    assert (out - exact).norm() / exact.norm() < 0.15


@EACH
def test_no_tokens_and_no_active_latents(make, x, architecture):
    sae = make(architecture)
    assert sae(x[:0]).shape == x[:0].shape
    for name in ("b_enc", "b_gate"):
        if getattr(sae, name) is not None:
            getattr(sae, name).fill_(-1e4)
    torch.testing.assert_close(sae(x), sae.b_dec.expand_as(x))


@EACH
def test_encoder_lies_latent_by_latent_in_memory(make, tmp_path, architecture):
    for sae in (
        make(architecture),
        make(architecture).to(torch.bfloat16),
        Dictionary.load(make(architecture).save(tmp_path)),
    ):
        assert sae.W_enc.shape == (sae.d_in, sae.n_latents)
        assert sae.W_enc.T.is_contiguous()


@EACH
def test_a_new_one_is_zero(architecture):
    # Memory that nobody wrote held NaN now and then: a saved dictionary could not be read again.
    k = 4 if "topk" in architecture else None
    for _ in range(3):
        dirty = [torch.full((64, 128), torch.nan) for _ in range(8)]
        del dirty
        new = Dictionary(DictionaryConfig(architecture, 64, 128, site="resid_post.0", model_name="m", k=k))
        assert all(not parameter.any() for parameter in new.parameters())


@EACH
def test_meta_device_tells_the_memory(make, architecture):
    real = make(architecture)
    planned = Dictionary(real.config, device="meta")
    assert planned.W_enc.is_meta
    assert planned.nbytes == real.nbytes == sum(p.numel() * 4 for p in real.state_dict().values())


@pytest.fixture
def skipping(make):
    """The factory of random transcoders with a skip connection."""
    return lambda architecture="relu", **more: make(
        architecture, site="mlp_in.1", site_out=Site("mlp_out", 1), skip=True, **more
    )


@EACH
def test_a_skip_connection_adds_a_linear_map_of_the_input(skipping, x, architecture):
    transcoder = skipping(architecture)
    acts, latents_write = by_hand(transcoder, x[1, 2])
    assert 0 < (acts > 0).sum() < transcoder.n_latents
    skip = [x[1, 2].double() @ transcoder.W_skip[:, i].double() for i in range(transcoder.d_in)]
    torch.testing.assert_close(transcoder(x)[1, 2], (latents_write + torch.stack(skip)).float(), atol=5e-6, rtol=1e-5)
    latents = transcoder.encode(x)
    torch.testing.assert_close(transcoder.decode(latents)[1, 2], latents_write.float(), atol=5e-6, rtol=1e-5)
    for same in (latents, latents.dense()):
        torch.testing.assert_close(transcoder.reconstruct(x, same), transcoder(x), atol=5e-6, rtol=1e-5)


def test_a_skip_connection_has_the_gradient_of_finite_differences(skipping, x):
    some = x[0, :1].double().requires_grad_()
    assert torch.autograd.gradcheck(skipping(dtype=torch.float64), some, eps=1e-7, atol=1e-5)


def test_a_skip_connection_in_half_precision_and_on_no_tokens(skipping, x):
    exact, half = skipping()(x), skipping().to(torch.bfloat16)
    out = half(x)
    assert (out.dtype, half.reconstruct(x, half.encode(x)).dtype) == (x.dtype, torch.bfloat16)
    assert (out - exact).norm() / exact.norm() < 0.15
    assert half(x[:0]).shape == x[:0].shape


def test_memory_counts_a_skip_connection(skipping, make):
    real, without = skipping(), make(site="mlp_in.1", site_out=Site("mlp_out", 1))
    planned = Dictionary(real.config, device="meta")
    assert planned.nbytes == real.nbytes == without.nbytes + 4 * real.d_in**2
    assert without.W_skip is None


def test_wrong_width_is_refused(make):
    with pytest.raises(UsageError, match="width 12, found 13"):
        make().encode_dense(torch.zeros(2, 13))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "temporal"}, "unknown architecture 'temporal'; known: relu, jumprelu, topk"),
        ({"normalisation": "zscore"}, "unknown normalisation"),
        ({"architecture": "topk"}, "topk needs a whole k"),
        ({"architecture": "topk", "k": 99}, "from 1 to n_latents=8, found k=99"),
        ({"d_in": 0}, "positive widths"),
        (
            {"skip": True, "site": Site("mlp_out", 1)},
            "a skip connection belongs to a transcoder, found one at mlp_out.1",
        ),
    ],
)
def test_impossible_configurations(changes, message):
    with pytest.raises(UsageError, match=message):
        DictionaryConfig(**{"architecture": "relu", "d_in": 4, "n_latents": 8, **changes})


@pytest.mark.parametrize("normalisation", ["layer_norm", "constant_norm_rescale", "centre"])
def test_decoding_is_in_the_scale_of_the_activations_or_refused(make, x, normalisation):
    """Latents do not hold what normalising took off each token: alone they are decoded to another scale."""
    sae = make("relu", normalisation=normalisation)
    latents, (_, statistics) = sae.encode(x), sae.normalise(x)
    torch.testing.assert_close(sae.decode(latents, statistics=statistics), sae(x))
    assert not torch.allclose(sae.decode_normalised(latents), sae(x), atol=1e-2)
    for given in (latents, latents.dense()):
        with pytest.raises(UsageError, match=f"what {normalisation} took off each token, found latents alone"):
            sae.decode(given)
    plain = make("relu")
    torch.testing.assert_close(plain.decode(plain.encode(x)), plain(x))
