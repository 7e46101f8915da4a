"""Random dictionaries on tiny models: a few of their latents are active at every token."""

import torch

from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.model import Site

N = 60
# A latent is active where it is above this share of its own largest pre-activations; few are, as in trained ones.
ACTIVE = 0.8


def random_dictionary(model, tokens, site, *, architecture="jumprelu", site_out=None, seed=0, skip=False, n=N, **facts):
    """A dictionary in float64 whose thresholds leave the strongest fifth of each latent's tokens active."""
    site, out = Site.of(site), None if site_out is None else Site.of(site_out)
    with torch.no_grad():
        x, target = (model.capture(tokens, [one])[one].double() for one in (site, out or site))
    mean = target.mean(dim=(0, 1))
    spread = (target - mean).std()
    config = DictionaryConfig(
        architecture=architecture,
        d_in=x.shape[-1],
        n_latents=n,
        site=site,
        site_out=out,
        model_name=None,
        k={"topk": 4, "batchtopk": 4.0}.get(architecture),
        **({"skip": True} if skip else {}),
        **facts,
    )
    made = Dictionary(config, dtype=torch.float64)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw, dtype=torch.float64) * 0.1)
        made.b_dec.mul_(spread).add_(mean)
        if made.threshold is not None and architecture == "jumprelu":
            normal, _ = made.normalise(x)
            shift = made.b_dec if config.subtract_b_dec else 0
            pre = (normal - shift) @ made.W_enc + made.b_enc
            made.threshold.copy_(pre.flatten(0, 1).quantile(ACTIVE, dim=0).clamp(min=1e-3))
        # A poor reconstruction, but nearer to the target than its mean is: what is written is a small part of it.
        written = made.decode_normalised(made.encode(x)) - made.b_dec
        made.W_dec.mul_(spread / (2 * written.std()))
        if made.W_skip is not None:
            made.W_skip.mul_(spread / (2 * (x @ made.W_skip).std()))
    return made.requires_grad_(False)


def pre_activations(dictionary, x):
    """What the latents' thresholds are compared with, by the formula of the dictionary's contract."""
    normal, _ = dictionary.normalise(x)
    if dictionary.config.subtract_b_dec:
        normal = normal - dictionary.b_dec
    return normal @ dictionary.W_enc + dictionary.b_enc
