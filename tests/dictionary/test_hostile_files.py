"""Files of other people that promise what they do not hold: one line that names the file, at once."""

import zipfile

import numpy as np
import pytest
import test_openai
import torch

from gossamer.dictionary import Dictionary
from gossamer.errors import GossamerError

SHAPES = {"W_enc": (12, 40), "W_dec": (40, 12), "b_enc": (40,), "b_dec": (12,), "threshold": (40,)}
EACH_WAY = pytest.mark.parametrize("device", [None, "meta"])


def refused(path, match, device):
    with pytest.raises(GossamerError, match=match) as caught:
        Dictionary.load(path, device=device)
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def archive(path, shape, dtype="<f4"):
    """An npz file whose arrays have a header of their own and 16 bytes."""
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(16)
    with zipfile.ZipFile(path, "w") as file:
        for name in SHAPES:
            file.writestr(f"{name}.npy", content)


@EACH_WAY
@pytest.mark.parametrize("shape", ["(1000000000000,)", "(1000000000, 1000)", "(-1, 12)"])
def test_arrays_that_promise_more_than_the_file_holds(tmp_path, shape, device):
    archive(tmp_path / "params.npz", shape)
    refused(tmp_path / "params.npz", "bytes promised, found fewer", device)


@EACH_WAY
def test_arrays_of_no_floating_point_numbers(tmp_path, device):
    for dtype in ("<c8", "|O", "<U4", "<f16"):
        archive(tmp_path / "params.npz", "(1, 1)", dtype)
        refused(tmp_path / "params.npz", "expected floating-point numbers", device)


@EACH_WAY
@pytest.mark.parametrize(("local", "central", "value"), [(6, 8, 1), (8, 10, 99)], ids=["encrypted", "unknown method"])
def test_archives_that_cannot_be_unpacked(tmp_path, local, central, value, device):
    path = tmp_path / "params.npz"
    np.savez(path, **{name: np.ones(shape, np.float32) for name, shape in SHAPES.items()})
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\x03\x04") + local] = value
    content[content.find(b"PK\x01\x02") + central] = value
    path.write_bytes(content)
    refused(path, "damaged or not of this format", device)


KINDS = {
    "one whose entries share memory": lambda w: w[:1, :1].as_strided((1 << 20, 1 << 16), (0, 0)),
    "a sparse one": torch.Tensor.to_sparse,
    "one without numbers": lambda w: w.to("meta"),
    "a nested one": lambda w: torch.nested.nested_tensor([w[0], w[1]]),
    "a quantised one": lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
    "a tensor of torch.float8_e4m3fn": lambda w: w.to(torch.float8_e4m3fn),
    "a tensor of torch.complex64": lambda w: w.to(torch.complex64),
}


@EACH_WAY
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_no_plain_arrays(tmp_path, kind, device):
    path = tmp_path / "1.pt"
    test_openai.file_of(path)
    content = torch.load(path, weights_only=True)
    content["encoder.weight"] = KINDS[kind](content["encoder.weight"])
    torch.save(content, path)
    refused(path, f"encoder.weight: expected .* found {kind}", device)


def test_what_is_wrong_with_a_file_names_it(tmp_path):
    path = tmp_path / "params.npz"
    np.savez(path, **{name: np.ones([0] * len(shape), np.float32) for name, shape in SHAPES.items()})
    refused(path, "expected positive widths, found d_in=0", None)
