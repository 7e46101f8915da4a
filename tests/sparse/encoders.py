"""Encoders and activations that make choosing the largest pre-activations hard."""

import torch

TOKENS, WIDTH, LATENTS = 70, 24, 96


def case(loud_tokens=1.0, loud_latents=1.0, bias=0.1, seed=0):
    """x, W_enc, b_enc; the first token and the first latent as much louder than the others as asked for."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(TOKENS, WIDTH, generator=generator)
    W_enc = torch.randn(WIDTH, LATENTS, generator=generator) / WIDTH**0.5
    x[0] *= loud_tokens
    W_enc[:, 0] *= loud_latents
    return x, W_enc, bias * torch.randn(LATENTS, generator=generator)


CASES: list[dict[str, float]] = [
    {},
    {"loud_tokens": 1000.0},
    {"loud_latents": 300.0},
    {"bias": 50.0},
    {"bias": 0.0, "loud_tokens": 0.0},
]
