"""What the libraries that define a format made of their own files; see golden/make.py."""

from pathlib import Path

import torch
from safetensors.torch import load_file

GOLDEN = Path(__file__).parent / "golden"


def agrees_with_the_original(sae, folder):
    """The dictionary's latents and output are those that its own library computed."""
    expected = load_file(folder / "golden.safetensors")
    x, latents = expected["x"], expected["latents"]
    assert 0 < (latents > 0).float().mean() < 0.9
    torch.testing.assert_close(sae.encode_dense(x), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sae.encode(x).dense(), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sae(x), expected["x_hat"], atol=1e-5, rtol=1e-5)


def agrees_in_float64(sae, x, latents, x_hat):
    """Latents and output equal those of an equation evaluated in float64."""
    assert 0 < (latents > 0).double().mean() < 0.9
    torch.testing.assert_close(sae.encode_dense(x), latents.float(), atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(sae(x), x_hat.float(), atol=2e-5, rtol=1e-5)


def drawn(shapes, seed=5):
    """Random tensors of these shapes."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) * 0.4 for name, shape in shapes.items()}
