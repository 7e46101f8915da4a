"""OpenAI's autoencoders: their published equations in float64, and a pickle that is read without being run."""

import pickle
from collections import OrderedDict

import pytest
import torch
from originals import agrees_in_float64, drawn

from gossamer.dictionary import Dictionary
from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site

D, N, K = 12, 40, 5
SHAPES = {"pre_bias": (D,), "encoder.weight": (N, D), "latent_bias": (N,), "decoder.weight": (D, N)}
ADDRESS = "gpt2-small/resid_post_mlp_v5_32k/autoencoders/8.pt"


def file_of(path, named="TopK", **changes):
    """A file as OpenAI's `state_dict` leaves it; returns its weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    w = drawn(SHAPES)
    statistics = {
        "stats_last_nonzero": torch.zeros(N, dtype=torch.long),
        "latents_activation_frequency": torch.ones(N),
        "latents_mean_square": torch.zeros(N),
    }
    state = OrderedDict({**w, **statistics, "activation": named})
    if named == "TopK":
        state["activation_state_dict"] = OrderedDict(k=K, postact_fn="ReLU")
    state.update(changes)
    torch.save(OrderedDict((name, value) for name, value in state.items() if value is not ...), path)
    return w


def equation(w, x, topk):
    """Layer norm with the unbiased deviation and the constant outside the root, TopK, ReLU; or ReLU alone."""
    w, v = {name: tensor.double() for name, tensor in w.items()}, x.double()
    mean = v.mean(-1, keepdim=True) if topk else torch.zeros(1, dtype=torch.float64)
    deviation = ((v - mean).square().sum(-1, keepdim=True) / (D - 1)).sqrt() if topk else torch.ones(1).double()
    scaled = (v - mean) / (deviation + (1e-5 if topk else 0))
    pre = (scaled - w["pre_bias"]) @ w["encoder.weight"].T + w["latent_bias"]
    kept = pre.topk(K, dim=-1).indices if topk else torch.arange(N).expand(*x.shape[:-1], N)
    latents = torch.zeros_like(pre).scatter(-1, kept, pre.gather(-1, kept).clamp(min=0))
    return latents, (latents @ w["decoder.weight"].T + w["pre_bias"]) * deviation + mean


@pytest.mark.parametrize("activation", ["TopK", "ReLU"])
def test_the_published_equations(tmp_path, x, activation):
    w = file_of(tmp_path / ADDRESS, activation)
    sae = Dictionary.load(tmp_path / ADDRESS)
    assert (sae.site, sae.model_name) == (Site("resid_post", 8), "gpt2")
    assert sae.config.normalisation == ("layer_norm" if activation == "TopK" else "none")
    agrees_in_float64(sae, x, *equation(w, x, activation == "TopK"))


def test_the_oldest_files_name_no_activation(tmp_path, x):
    w = file_of(tmp_path / ADDRESS, "ReLU", activation=...)
    agrees_in_float64(Dictionary.load(tmp_path / ADDRESS), x, *equation(w, x, topk=False))


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("gpt2-small/resid_post_attn_v5_128k/autoencoders/0.pt", Site("resid_mid", 0)),
        ("gpt2-small/resid_delta_attn_v5_32k/autoencoders/11.pt", Site("attn_out", 11)),
        ("gpt2-small/resid_delta_mlp_v4/autoencoders/3.pt", Site("mlp_out", 3)),
        ("gpt2-small/resid_delta_mlp/autoencoders/3.pt", Site("mlp_out", 3)),
        ("gpt2-small/mlp_post_act/autoencoders/3.pt", None),
        ("mine/3.pt", None),
    ],
)
def test_the_address_names_the_site(tmp_path, address, site):
    file_of(tmp_path / address)
    sae = Dictionary.load(tmp_path / address)
    assert (sae.site, sae.model_name) == (site, None if address.startswith("mine") else "gpt2")


def test_one_of_several_layers_has_to_be_named(tmp_path):
    for layer in range(8):
        file_of(tmp_path / f"{layer}.pt")
    with pytest.raises(UsageError, match=r"several files of openai found \(0\.pt, .*5\.pt, 2 more\); give one of them"):
        Dictionary.load(tmp_path)
    assert Dictionary.load(tmp_path / "3.pt", site="resid_post.3").site == Site("resid_post", 3)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"activation": "Identity"}, UsageError, "unknown activation 'Identity'; known: ReLU, TopK"),
        ({"activation_state_dict": {"k": K, "postact_fn": "Identity"}}, UsageError, "unknown postact_fn 'Identity'"),
        ({"activation_state_dict": {"postact_fn": "ReLU"}}, GossamerError, "expected k of TopK"),
        ({"activation_state_dict": {"k": 2.5, "postact_fn": "ReLU"}}, GossamerError, "k: expected a whole number"),
        ({"activation_state_dict": ...}, GossamerError, "expected dict at 'activation_state_dict'"),
        ({"pre_bias": ...}, GossamerError, "expected pre_bias and latent_bias of OpenAI's autoencoders, found"),
        ({"decoder.weight": torch.zeros(N, D)}, GossamerError, r"decoder\.weight: expected shape \(12, 40\), found"),
        ({"decoder.linear.weight": torch.zeros(D, N)}, GossamerError, r"found also decoder\.linear\.weight"),
    ],
)
def test_what_does_not_fit(tmp_path, changes, error, match):
    file_of(tmp_path / "1.pt", **changes)
    with pytest.raises(error, match=match):
        Dictionary.load(tmp_path / "1.pt")


class Trap:
    """Writes a file if it is ever unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_nothing_in_a_file_is_run(tmp_path):
    sprung = tmp_path / "sprung"
    file_of(tmp_path / "1.pt", activation_state_dict=Trap(str(sprung)))
    with pytest.raises(GossamerError, match="found objects that would run code when read") as caught:
        Dictionary.load(tmp_path / "1.pt")
    assert "\n" not in str(caught.value)
    (tmp_path / "2.pt").write_bytes(pickle.dumps({"pre_bias": Trap(str(sprung))}))
    with pytest.raises(GossamerError, match=r"2\.pt: damaged"):
        Dictionary.load(tmp_path / "2.pt")
    torch.save([torch.zeros(2)], tmp_path / "3.pt")
    with pytest.raises(GossamerError, match="expected a dictionary of tensors, found list"):
        Dictionary.load(tmp_path / "3.pt")
    assert not sprung.exists()


def test_meta_reads_shapes_only(tmp_path):
    file_of(tmp_path / ADDRESS)
    planned = Dictionary.load(tmp_path / ADDRESS, device="meta")
    assert planned.W_enc.is_meta
    assert (planned.k, planned.nbytes) == (K, Dictionary.load(tmp_path / ADDRESS).nbytes)
