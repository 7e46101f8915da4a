"""Which relation the second mention reads: its attention outputs are taken from a prompt in which one thing is changed.

attn_out of some layers at the second mention comes from a run on a changed prompt (another connective, other names,
another beginning, a filler, the other order), and everything else is the clean run. What is kept of the logit
difference says what those outputs were about (Kissane et al. 2024, who changed " and" to " alongside"). The floor is
zeros at the same token, not at all tokens as in their code.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.attention.ioi.prompts import FILLER, PREFIX, EncodedPrompts, IOIPrompt, encode_prompts
from gossamer.attention.ioi.runs import CleanRun
from gossamer.model.site import Site
from gossamer.tasks.prompt_tokenizer import PromptTokenizer

CONNECTIVES = (" or", " with", " alongside", " near", " but", " saw")
ROLE = "S2"


def changes(prompts: Sequence[IOIPrompt], connectives: Sequence[str]) -> Iterator[tuple[str, list[IOIPrompt]]]:
    """Changed prompts, by what was changed."""
    for word in connectives:
        yield f"connective{word}", [replace(one, connective=word) for one in prompts]
    renamed = [one.renamed for one in prompts]
    yield "names", renamed
    yield "prefix", [replace(one, prefix=PREFIX) for one in prompts]
    yield "filler", [replace(one, filler=FILLER) for one in prompts]
    yield "names, prefix and filler", [replace(one, prefix=PREFIX, filler=FILLER) for one in renamed]
    yield "order", [one.reordered for one in prompts]


@torch.no_grad()
def kept_differences(clean: CleanRun, changed: EncodedPrompts | None, layers: Sequence[int]) -> Float[Tensor, "prompt"]:
    """Logit differences with attn_out of `layers` at the second mention from the changed prompts, or zero (None)."""
    sites = [Site("attn_out", layer) for layer in sorted(layers)]
    rows, where = torch.arange(len(clean.prompts)), clean.prompts.places[ROLE]
    if changed is None:
        d, device = clean.model.d_model, clean.difference.device
        values = {site: torch.zeros(len(rows), d, device=device) for site in sites}
    else:
        found = clean.model.capture(changed.tokens.to(clean.model.device), sites)
        values = {site: found[site][rows, changed.places[ROLE].to(where.device)] for site in sites}
    return clean.differences(rows, sites[0].layer or 0, {site: (where, value) for site, value in values.items()})


@torch.no_grad()
def connective_chances(clean: CleanRun, words: Sequence[str], speller: PromptTokenizer) -> dict[str, float]:
    """Mean probability that the model gives each connective's first token after the first name."""
    prompts = clean.prompts
    logits = clean.model.logits(prompts.tokens, at=prompts.places["connective"] - 1)
    chances = torch.softmax(logits.float(), dim=-1).mean(dim=0)
    found = {}
    for word in words:
        probe = encode_prompts([replace(prompts.prompts[0], connective=word)], speller)
        found[word] = float(chances[probe.tokens.ids[0, probe.places["connective"][0]]])
    return found
