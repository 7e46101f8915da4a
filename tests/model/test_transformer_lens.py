"""Every TransformerLens name that we print or read, against TransformerLens itself: same name, same tensor."""

import pytest
import torch
from tiny_families import random_hf, random_tokens
from word_model import word_tokenizer

from gossamer.model import SITE_KINDS, LanguageModel, Site

bridge = pytest.importorskip("transformer_lens.model_bridge")

# Learned and rotary positions, LayerNorm and RMSNorm, fused and grouped queries, norms after, parallel blocks.
FAMILIES = ("gpt2", "llama", "gemma2", "qwen3", "gpt_neox parallel")
# The bridge has no hook where GPT-NeoX rotates.
MISSING = {"gpt_neox parallel": ("q", "k")}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def theirs(family, tmp_path_factory):
    """All that TransformerLens caches of one pass."""
    folder = tmp_path_factory.mktemp("lens")
    random_hf(family).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    model = bridge.TransformerBridge.boot_transformers(str(folder), device="cpu")
    with torch.no_grad():
        return model.run_with_cache(random_tokens().ids)[1]


def test_names_mean_the_same_tensors(family, theirs):
    model = LanguageModel.load(random_hf(family))
    kinds = [kind for kind in model.kinds if SITE_KINDS[kind].transformer_lens]
    sites = [Site(kind, 1) for kind in kinds if kind not in MISSING.get(family, ())]
    # Nothing is rotated in GPT-2, where hook_q is q as well.
    sites = [site for site in sites if family != "gpt2" or site.kind not in ("q", "k")]
    assert len(sites) >= 13
    with torch.no_grad():
        values = model.capture(random_tokens(), [Site("embed"), *sites])
    for site, value in values.items():
        found = theirs[site.transformer_lens]
        found = found.flatten(2) if site.kind == "z" else found
        if site.kind == "scores":  # where masked they have minus infinity
            found, value = (scores.masked_fill(scores < -1e30, 0) for scores in (found, value))
        torch.testing.assert_close(value, found, rtol=1e-4, atol=2e-5, msg=lambda text, site=site: f"{site}: {text}")


def test_the_norm_before_its_gain_is_not_what_enters_the_mlp(theirs):
    gap = theirs["blocks.1.ln2.hook_normalized"] - theirs["blocks.1.mlp.hook_in"]
    assert gap.norm() > 0.1 * theirs["blocks.1.mlp.hook_in"].norm()
