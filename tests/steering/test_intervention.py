"""Every intervention against the numbers of the method file (T1 to T5), and against what it means by definition."""

import pytest
import torch

from gossamer.dictionary.config import Contents, DictionaryConfig
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import NotFiniteError, UsageError
from gossamer.model.site import Site
from gossamer.replacement import ReplacementModel
from gossamer.steering import (
    Coefficient,
    Condition,
    Intervention,
    Positions,
    Steering,
    act_add,
    add,
    cap,
    clamp,
    conditional_clamp,
    feature_add,
    floor,
    orthogonal_decomposition,
    project_out,
    projection_cap,
    replace_activation,
    replace_component,
    scale,
)

SITE = Site("resid_post", 1)
X = torch.tensor([2.0, 0.6, 1.0])
ROWS = torch.tensor([[1.0, 0, 0], [0.8, 0.6, 0], [0, 0, 1.0]])
V = torch.tensor([3.0, 4.0, 0.0])


def by_hand():
    """The dictionary of the method file."""
    config = DictionaryConfig("relu", 3, 3, site=SITE, model_name="m", subtract_b_dec=True)
    biases = {"b_enc": torch.full((3,), -0.5), "b_dec": torch.tensor([0.1, 0, 0])}
    return Dictionary.from_contents(Contents(config, {"W_enc": ROWS.T.clone(), "W_dec": ROWS.clone(), **biases}))


def after(intervention, x=X):
    """What stands there instead of one vector."""
    one = Steering([[intervention]])
    return one.apply(SITE, x.reshape(1, 1, -1), torch.zeros(1, 1, dtype=torch.long), {}).flatten()


def close(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_t1_encoding_reconstruction_and_error():
    dictionary = by_hand()
    latents = dictionary.encode_dense(X)
    close(latents, [1.4, 1.38, 0.5])
    close(dictionary.reconstruct(X, latents), [2.604, 0.828, 0.5])
    close(X - dictionary(X), [-0.604, -0.228, 0.5])


def test_t2_adding_a_feature():
    close(after(feature_add(by_hand(), 2, 4.0)), [2, 0.6, 5])
    close(after(add(SITE, ROWS[2], 4.0)), [2, 0.6, 5])


def test_t3_clamping_and_its_kin():
    dictionary = by_hand()
    clamped = after(clamp(dictionary, 1, 3.0))
    close(clamped, [3.296, 1.572, 1])
    close(dictionary.encode_dense(clamped), [2.696, 3, 0.5])
    close(after(clamp(dictionary, 1, 0.0)), [0.896, -0.228, 1])
    close(after(scale(dictionary, 1, 2.0)), [3.104, 1.428, 1])
    close(after(floor(dictionary, 1, 1.0)), X.tolist())
    close(after(floor(dictionary, 1, 3.0)), clamped.tolist())
    close(after(cap(dictionary, 1, 3.0)), X.tolist())
    close(after(cap(dictionary, 1, 0.0)), [0.896, -0.228, 1])
    close(after(conditional_clamp(dictionary, 1, 3.0)), clamped.tolist())
    off = torch.tensor([0.0, 0.0, 1.0])
    close(after(conditional_clamp(dictionary, 1, 3.0), off), off.tolist())
    close(after(clamp(dictionary, 1, 3.0), off), [2.4, 1.8, 1])
    close(after(scale(dictionary, 1, 5.0), off), off.tolist())


def test_t5_along_a_vector():
    close(after(orthogonal_decomposition(SITE, V, 2.0)), [3.008, 1.944, 1])
    close(after(projection_cap(SITE, V, 1.0)), [1.592, 0.056, 1])
    close(after(projection_cap(SITE, V, 9.0)), X.tolist())
    close(after(replace_component(SITE, V, 5.0)), [3.992, 3.256, 1])
    close(after(project_out(SITE, V)), [0.992, -0.744, 1])
    # x . v = 8.4, and where it is negative the whole of c is written.
    unit = V / 5
    close(after(replace_activation(SITE, unit, 5.0)), [3.992, 3.256, 1])
    close(after(replace_activation(SITE, unit, 5.0), -X), (-X + 5 * unit).tolist())


def test_a_clamp_is_the_replacement_model_with_its_error_kept(tiny_gpt2):
    dictionary = random_dictionary(SITE)
    x = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(1))
    whole = ReplacementModel(tiny_gpt2, {SITE: dictionary}, errors="keep")

    def edit(latents):
        return latents.index_fill(-1, torch.tensor([7]), 2.5)

    found = Steering([[clamp(dictionary, 7, 2.5)]]).apply(SITE, x, torch.arange(4).expand(2, 4), {})
    torch.testing.assert_close(found, whole.reconstruct(SITE, x, edit), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normalisation", ["layer_norm", "constant_norm_rescale", "centre"])
def test_a_clamp_of_a_dictionary_that_normalises_keeps_the_error_too(normalisation, tiny_gpt2):
    dictionary = random_dictionary(SITE, normalisation=normalisation)
    x = 3 * torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(1))
    latents = dictionary.encode_dense(x)
    expected = x + dictionary.reconstruct(x, latents.index_fill(-1, torch.tensor([3]), 1.5))
    expected = expected - dictionary.reconstruct(x, latents)
    found = Steering([[clamp(dictionary, 3, 1.5)]]).apply(SITE, x, torch.arange(5)[None], {})
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def random_dictionary(site, n=24, width=32, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    config = DictionaryConfig("relu", width, n, site=site, model_name="tiny", **options)
    tensors = {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in config.shapes.items()}
    return Dictionary.from_contents(Contents(config, tensors))


def test_rows_of_one_batch_have_interventions_of_their_own():
    """All kinds at once, some rows with two in order and one with none: each row as if alone."""
    dictionary, other = by_hand(), random_dictionary(SITE, 5, 3, seed=1)
    cells = [
        [],
        [add(SITE, V, 0.5)],
        [clamp(dictionary, 1, 3.0), orthogonal_decomposition(SITE, V, 2.0)],
        [clamp(dictionary, 0, 0.5)],
        [project_out(SITE, V), add(SITE, ROWS[2], -1.0)],
        [clamp(other, 4, 1.0)],
        [add(SITE, V, 0.5).where(Positions(1, 2))],
    ]
    generator = torch.Generator().manual_seed(0)
    cell_of_row = torch.tensor([3, 0, 2, 6, 1, 4, 5, 2, 1])
    x = torch.randn(len(cell_of_row), 3, 3, generator=generator)
    where = torch.arange(3).expand(len(x), 3)
    together = Steering(cells, cell_of_row).apply(SITE, x, where, {})
    for row, cell in enumerate(cell_of_row.tolist()):
        alone = x[row : row + 1]
        for one in cells[cell]:
            alone = Steering([[one]]).apply(SITE, alone, where[:1], {})
        torch.testing.assert_close(together[row], alone[0])
    assert torch.equal(together[1], x[1])
    assert torch.equal(together[3, 0], x[3, 0])


def test_gates_let_some_tokens_through():
    dictionary = by_hand()
    x = torch.stack([X, torch.tensor([0.0, 0.0, 1.0])])[None]
    where = torch.arange(2)[None]
    # Feature 1 is at 1.38 and at 0; the cosines with the second axis are .6 / sqrt(5.36) = .259 and 0.
    for gate in (
        Condition(SITE, 1.0, latent=1, dictionary=dictionary),
        Condition(SITE, 0.25, vector=torch.tensor([0.0, 2.0, 0.0])),
    ):
        found = Steering([[add(SITE, V, 1.0).gated(gate)]]).apply(SITE, x, where, {})
        torch.testing.assert_close(found[0, 0], X + V)
        torch.testing.assert_close(found[0, 1], x[0, 1])
    shut = Condition(SITE, 0.26, vector=torch.tensor([0.0, 2.0, 0.0]))
    assert torch.equal(Steering([[add(SITE, V, 1.0).gated(shut)]]).apply(SITE, x, where, {}), x)


def test_units():
    assert Coefficient(0.5, "max_activation", 8.0).raw == 4.0
    assert str(Coefficient(0.5, "max_activation", 8.0)) == "0.5 x max_activation (4)"
    for wrong in ({"unit": "volts"}, {"scale": 2.0}, {"unit": "residual_norm", "scale": 0.0}):
        with pytest.raises(UsageError):
            Coefficient(1.0, **wrong)


def test_what_cannot_be_meant_is_refused():
    dictionary = by_hand()
    for made, said in (
        (lambda: add("pattern.1", V, 1.0), "one vector a token"),
        (lambda: add(SITE, torch.zeros(3), 1.0), "some length"),
        (lambda: add(SITE, V, float("nan")), "finite"),
        (lambda: clamp(dictionary, 3, 1.0), "from 0 to 2"),
        (lambda: Intervention("act_add", SITE, V, Coefficient(1.0)), "one a position"),
        (lambda: add(SITE, V, 1.0).gated(Condition(Site("resid_post", 2), 0.5, vector=V)), "not behind"),
        (lambda: Condition(SITE, 0.5), "either"),
        (lambda: Positions(3, 3), "behind the start"),
        (lambda: Steering([]), "at least one"),
        (lambda: after(add(SITE, torch.ones(4), 1.0)), "width 3"),
        (lambda: after(act_add(SITE, torch.ones(2, 3), 1.0)), "at least 2 tokens"),
        (lambda: after(add(SITE, V, 1.0).where(Positions(after_prompt=True))), "prompt_lengths"),
    ):
        with pytest.raises(UsageError, match=said):
            made()
    with pytest.raises(NotFiniteError, match="smaller coefficient"):
        after(add(SITE, V, 3e38))
    with pytest.raises(NotFiniteError, match="steering vector"):
        add(SITE, torch.tensor([1.0, float("nan")]), 1.0)


def test_a_transcoder_is_refused():
    config = DictionaryConfig("relu", 32, 8, site=Site("mlp_in", 1), site_out=Site("mlp_out", 1))
    generator = torch.Generator().manual_seed(0)
    made = Dictionary.from_contents(
        Contents(config, {name: torch.randn(shape, generator=generator) for name, shape in config.shapes.items()})
    )
    with pytest.raises(UsageError, match="transcoder"):
        clamp(made, 0, 1.0)
