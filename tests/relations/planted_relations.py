"""Latents of documents in which relations are planted, and the naive double loop over all pairs."""

import numpy as np
import torch

from gossamer.relations import GivenLatents
from gossamer.sparse.latents import SparseLatents


def given(activations, **options):
    """Dense activations (rows, positions, latents) by name, as a stream."""
    latents = {name: SparseLatents.from_dense(torch.as_tensor(one)) for name, one in activations.items()}
    return GivenLatents(latents, **options)


def random_latents(n, *, rows=24, positions=10, rate=0.15, seed=0):
    draw = np.random.default_rng(seed)
    active = draw.random((rows, positions, n)) < rate
    return active * (0.1 + draw.random((rows, positions, n)))


def naive(f, g, theta, phi):
    """Every measure by a double loop over latents in float64; f (T, n), g (T, m), thresholds of each latent."""
    f, g, tokens = f.reshape(-1, f.shape[-1]), g.reshape(-1, g.shape[-1]), f.shape[0] * f.shape[1]
    names = ("c", "jaccard", "sufficiency", "necessity", "mutual_information", "cosine", "pearson")
    found = {name: np.zeros((f.shape[1], g.shape[1])) for name in names}
    for i in range(f.shape[1]):
        for j in range(g.shape[1]):
            a, b = f[:, i] > theta[i], g[:, j] > phi[j]
            n, m, c = a.sum(), b.sum(), (a & b).sum()
            mutual = 0.0
            for x in (a, ~a):
                for y in (b, ~b):
                    if (x & y).sum():
                        joint = (x & y).sum() / tokens
                        mutual += joint * np.log(joint / (x.mean() * y.mean()))
            dot = (f[:, i] * g[:, j]).sum()
            lengths = np.linalg.norm(f[:, i]) * np.linalg.norm(g[:, j])
            spread = f[:, i].std() * g[:, j].std()
            centred = dot / tokens - f[:, i].mean() * g[:, j].mean()
            values = (
                c,
                c / (n + m - c) if n + m else 0,
                c / n if n else 0,
                c / m if m else 0,
                mutual,
                dot / lengths if lengths else 0,
                centred / spread if spread else 0,
            )
            for name, value in zip(names, values, strict=True):
                found[name][i, j] = value
    return found


def planted(*, rows=400, positions=10, noise=16, seed=0):
    """Upstream and downstream activations with known relations; the others are independent.

    Upstream 0..7 are independent at rate 0.1, but 1 is half of the time with 0. Downstream: 0 copies 0; 1 is 2 and 3;
    2 is 4 or 5; 3 is 0 without 1; 4 and 5 split 6; 6 merges 7 and 2; then noise.
    """
    draw = np.random.default_rng(seed)
    up = random_latents(8 + noise, rows=rows, positions=positions, rate=0.1, seed=seed)
    shape = up.shape[:2]
    up[..., 2:4] = (draw.random((*shape, 2)) < 0.3) * (0.1 + draw.random((*shape, 2)))
    up[..., 1] = np.where((up[..., 0] > 0) & (draw.random(shape) < 0.5), 1.0, up[..., 1])
    side = draw.random(shape) < 0.5
    on = up > 0
    down = [
        up[..., 0],
        on[..., 2] & on[..., 3],
        on[..., 4] | on[..., 5],
        on[..., 0] & ~on[..., 1],
        on[..., 6] & side,
        on[..., 6] & ~side,
        on[..., 7] | on[..., 2],
    ]
    other = random_latents(noise, rows=rows, positions=positions, rate=0.1, seed=seed + 1)
    strength = 0.5 + draw.random(shape)
    return up, np.concatenate([np.stack([one * strength for one in down], axis=-1), other], axis=-1)
