"""One step's loss and gradients against SAELens, on the same weights and batch.

SAELens sums squared errors over dimensions where we divide by d as a whole, so its loss is d times ours.
"""

import pytest
import torch
from objective_fixtures import D, N, batch, context, gradients, parameters, total

from gossamer.training.objectives import (
    L1,
    AuxK,
    BatchTopK,
    Gated,
    Matryoshka,
    NormWeightedL1,
    QuadraticL0,
    StepL0,
    TanhPenalty,
    TopK,
)

saes = pytest.importorskip("sae_lens.saes")
sae_module = pytest.importorskip("sae_lens.saes.sae")

STALE = torch.arange(N) < 6


def _shared(objective, *, unit=False):
    """Our parameters, on which latents 0 to 3 never fire."""
    p = parameters(objective)
    with torch.no_grad():
        p[next(iter(objective.vectors))][:4] = -20.0
        if unit:
            p["W_dec"] /= p["W_dec"].norm(dim=1, keepdim=True)
    return p


def _saelens(kind, p, x, dead, coefficients=None, **settings):
    """Loss and gradients by our names, from the library."""
    make = getattr(saes, f"{kind}TrainingSAE")
    config = getattr(saes, f"{kind}TrainingSAEConfig")(
        d_in=D, d_sae=N, dtype="float64", apply_b_dec_to_input=False, **settings
    )
    sae = make(config)
    if "threshold" in p:
        # The library keeps thresholds in float32.
        sae.threshold = torch.nn.Parameter(p["threshold"].detach().clone())
    for name, value in p.items():
        getattr(sae, name).data = value.detach().clone()
    step = sae_module.TrainStepInput(
        sae_in=x, coefficients=coefficients or {}, dead_neuron_mask=dead, n_training_steps=0, is_logging_step=False
    )
    loss = sae.training_forward_pass(step).loss
    found = torch.autograd.grad(loss, [getattr(sae, name) for name in p], allow_unused=True)
    return loss.detach(), dict(zip(p, found, strict=True))


def _ours(objective, p, x, dead_unless_fired=STALE):
    value = total(objective, p, x, x, context(dead_unless_fired=dead_unless_fired))
    return value.detach() * D, {name: found * D for name, found in gradients(value, p).items()}


def _assert_same(ours, theirs, names=None):
    torch.testing.assert_close(ours[0], theirs[0])
    for name in names or ours[1]:
        torch.testing.assert_close(ours[1][name], theirs[1][name], msg=lambda text, name=name: f"{name}: {text}")


def test_april_is_the_standard_loss():
    p, (x, _) = _shared(NormWeightedL1()), batch()
    _assert_same(_ours(NormWeightedL1(coefficient=0.7), p, x), _saelens("Standard", p, x, None, {"l1": 0.7}))


def test_l1_is_the_standard_loss_on_a_unit_decoder():
    """The library's weighting with norms moves rows along themselves only, which a unit decoder projects out."""
    p, (x, _) = _shared(L1(), unit=True), batch()
    ours, theirs = _ours(L1(coefficient=0.7), p, x), _saelens("Standard", p, x, None, {"l1": 0.7})
    _assert_same(ours, theirs, ["W_enc", "b_enc", "b_dec"])
    rows = p["W_dec"].detach()

    def across(gradient):
        return gradient - (gradient * rows).sum(dim=1, keepdim=True) * rows

    torch.testing.assert_close(across(ours[1]["W_dec"]), across(theirs[1]["W_dec"]))


def test_gated():
    """The library does not freeze the decoder in its second reconstruction, against the paper: that part is added."""
    p, (x, _) = _shared(Gated()), batch()
    loss, found = _ours(Gated(coefficient=0.7), p, x)
    opened = torch.relu(x @ p["W_enc"] + p["b_gate"]).detach()
    unfrozen = (x - opened @ p["W_dec"] - p["b_dec"]).square().sum(dim=1).mean()
    extra = torch.autograd.grad(unfrozen, [p["W_dec"], p["b_dec"]])
    found = {**found, "W_dec": found["W_dec"] + extra[0], "b_dec": found["b_dec"] + extra[1]}
    _assert_same((loss, found), _saelens("Gated", p, x, None, {"l1": 0.7}))


@pytest.mark.parametrize("through_encoder", [False, True])
@pytest.mark.parametrize("kind", ["step", "tanh", "quadratic"])
def test_jumprelu(kind, through_encoder):
    common = {"coefficient": 0.7, "bandwidth": 0.4, "through_encoder": through_encoder}
    objective = {
        "step": StepL0(**common),
        "tanh": TanhPenalty(**common, scale=2.0, pre_activation=0.3, dead_only=True),
        "quadratic": QuadraticL0(**common, target=3.0, per_token=True),
    }[kind]
    p, (x, _) = _shared(objective), batch()
    dead = STALE & (objective.outcome(p, x, x, context(dead_unless_fired=STALE)).fired == 0)
    settings = {
        "jumprelu_bandwidth": 0.4,
        "jumprelu_sparsity_loss_mode": kind,
        "jumprelu_ste_to_input": through_encoder,
        "jumprelu_tanh_scale": 2.0,
        "target_l0": 3.0 if kind == "quadratic" else None,
        "pre_act_loss_coefficient": 0.3 if kind == "tanh" else None,
    }
    _assert_same(_ours(objective, p, x), _saelens("JumpReLU", p, x, dead, {"l0": 0.7}, **settings))


def _dead(objective, p, x):
    found = STALE & (objective.outcome(p, x, x, context(dead_unless_fired=STALE)).fired == 0)
    assert found.sum() >= 4
    return found


@pytest.mark.parametrize(("make", "kind"), [(TopK, "TopK"), (BatchTopK, "BatchTopK")])
def test_topk_and_batchtopk(make, kind):
    """The library takes d // 2 dead latents, and less weight where fewer are dead than that."""
    p, (x, _) = _shared(TopK()), batch()
    objective = make(k=3, aux=AuxK(k=D // 2, weight=0.25))
    dead = _dead(objective, p, x)
    settings = {"k": 3, "aux_loss_coefficient": 0.25, "rescale_acts_by_decoder_norm": False}
    _assert_same(_ours(objective, p, x), _saelens(kind, p, x, dead, **settings))


def test_matryoshka():
    """The library sums over prefixes where we take the mean, and AuxK weighs by as much less."""
    p, (x, _) = _shared(TopK()), batch()
    objective = Matryoshka(k=3, prefixes=(0.25, 0.5, 1.0), aux=AuxK(k=D // 2, weight=0.25 / 3))
    dead = _dead(objective, p, x)
    settings = {"k": 3, "aux_loss_coefficient": 0.25, "rescale_acts_by_decoder_norm": False}
    theirs = _saelens("MatryoshkaBatchTopK", p, x, dead, matryoshka_widths=[4, 8, 16], **settings)
    loss, found = _ours(objective, p, x)
    _assert_same((loss * 3, {name: value * 3 for name, value in found.items()}), theirs)
