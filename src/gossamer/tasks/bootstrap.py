"""Bootstrap samples of prompts, of which some share a text and many a template.

Rows that ask several things of one text, or fill one template with other words, are no independent samples: drawn one
by one they make intervals too narrow. So whole texts are drawn with all their rows; where prompts have several
templates, templates are drawn first and then texts within each of them.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

RESAMPLES = 1000


def sampled(text: Int[Tensor, "prompt"], template: Int[Tensor, "text"], seed: int) -> Float[Tensor, "draw prompt"]:
    """How often each prompt is drawn in each of `RESAMPLES` samples; float64 on the CPU.

    Args:
        text: number of each prompt's text, from 0.
        template: number of each text's template, from 0.
        seed: of the samples.
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.bincount(template)
    if len(sizes) == 1:
        drawn = torch.randint(len(template), (RESAMPLES, len(template)), generator=generator)
        draw = torch.arange(RESAMPLES)[:, None].expand_as(drawn)
    else:
        # Texts in the order of their templates, each template's from `start` on.
        order = torch.argsort(template, stable=True)
        start = sizes.cumsum(0) - sizes
        templates = torch.randint(len(sizes), (RESAMPLES, len(sizes)), generator=generator).flatten()
        chosen = templates.repeat_interleave(sizes[templates])
        share = torch.rand(len(chosen), generator=generator, dtype=torch.float64)
        drawn = order[start[chosen] + (share * sizes[chosen]).long()]
        draw = torch.arange(RESAMPLES).repeat_interleave(len(sizes)).repeat_interleave(sizes[templates])
    counts = torch.zeros(RESAMPLES, len(template), dtype=torch.float64)
    counts.index_put_((draw, drawn), torch.ones((), dtype=torch.float64), accumulate=True)
    return counts[:, text]
