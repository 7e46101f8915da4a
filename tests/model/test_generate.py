"""Generating: against recomputation without a cache, under edits, with padding; draws; what ends a row."""

import pytest
import torch
from tiny_families import CONFIGS, VOCAB, random_tokens, shared_model

from gossamer.errors import UsageError
from gossamer.model import Generation, Site, positions
from gossamer.model.generation import Sampling, drawn, ends
from gossamer.tokens import Tokens

LENGTHS = (7, 3, 5)


def prompts(side="left"):
    """Three prompts of different lengths; what stands at padding is nobody's business."""
    full = random_tokens(length=7).ids
    mask = torch.zeros_like(full, dtype=torch.bool)
    ids = torch.full_like(full, -1)
    for row, length in enumerate(LENGTHS):
        place = slice(7 - length, None) if side == "left" else slice(0, length)
        ids[row, place], mask[row, place] = full[row, :length], True
    return Tokens(ids, mask)


def everywhere(model):
    """An edit at every kind of site in the middle layer that depends on the value and on the position."""

    def at_positions(value):
        where = positions()
        strength = 1 + 0.05 * torch.where(where % 3 == 0, where, 0).to(value)
        return value * strength.view(*strength.shape, *[1] * (value.dim() - 2))

    def of_pairs(value):
        return value * (1 + 0.05 * positions().clamp(min=0)[:, None, :, None].to(value))

    sites = [site for kind in model.kinds for site in model.sites(kind) if site.layer in (None, 1)]
    return {site: of_pairs if "query" in site.facts.axes else at_positions for site in sites}


def uncached(model, tokens, steps):
    """The same by running everything anew for every token."""
    for _ in range(steps):
        logits = model.logits(tokens)[:, -1]
        ids = logits.argmax(dim=-1)
        yield ids, logits
        tokens = Tokens(torch.cat([tokens.ids, ids[:, None]], 1), torch.cat([tokens.mask, tokens.mask[:, -1:]], 1))


@pytest.mark.parametrize(
    ("name", "edited"), [*((name, True) for name in CONFIGS), ("gpt2", False), ("gemma3", False), ("gpt_neo", False)]
)
def test_cached_equals_uncached(name, edited):
    """Longer than the windows of those families that have them; rows of different lengths."""
    # transformers' eager attention, which Gemma 2 needs, overflows in float64 where a row of scores is masked whole.
    model = shared_model(name, dtype=torch.float32 if name == "gemma2" else torch.float64)
    with torch.no_grad(), model.edit(everywhere(model) if edited else {}):
        steps = list(model.stream(prompts(), max_new_tokens=4, stop=()))
        expected = list(uncached(model, prompts(), 4))
    assert len(steps) == 4
    for step, (ids, logits) in zip(steps, expected, strict=True):
        # Norms, routers and some attention of these families compute in float32 whatever the model's type.
        torch.testing.assert_close(step.logits, logits, rtol=1e-5, atol=1e-5)
        assert torch.equal(step.ids, ids)


def test_cached_equals_uncached_in_float32():
    model = shared_model("llama")
    with torch.no_grad(), model.edit(everywhere(model)):
        steps = list(model.stream(prompts(), max_new_tokens=6, stop=()))
        for step, (_, logits) in zip(steps, uncached(model, prompts(), 6), strict=True):
            torch.testing.assert_close(step.logits, logits, rtol=1e-5, atol=1e-5)


def test_edits_know_their_positions():
    """Row by row, from 0, -1 at padding; the cache leaves only what is new, and keys stay whole."""
    model, seen = shared_model("gpt2"), {}

    def note(name):
        def edit(value):
            seen.setdefault(name, []).append(positions())
            return value

        return edit

    kinds = ("resid_post", "z", "pattern", "k", "mlp_norm_scale")
    with model.edit({Site(kind, 1): note(kind) for kind in kinds}):
        model.generate(prompts(), max_new_tokens=3, stop=())
        model.logits(prompts("right"))
    first = torch.stack([torch.arange(7) - (7 - length) for length in LENGTHS]).clamp(min=-1)
    second = torch.tensor(LENGTHS)[:, None]
    right = torch.stack([torch.where(torch.arange(7) < length, torch.arange(7), -1) for length in LENGTHS])
    for kind in kinds:
        assert torch.equal(seen[kind][0], first)
        assert torch.equal(seen[kind][3], right)
        expected = torch.cat([first, second], dim=1) if kind == "k" else second
        assert torch.equal(seen[kind][1], expected), kind
    with pytest.raises(UsageError, match="called by an edit"):
        positions()


def test_sides_of_padding_and_rows_alone_agree():
    model = shared_model("llama")
    left, right = (model.generate(prompts(side), max_new_tokens=5, stop=()) for side in ("left", "right"))
    assert torch.equal(left.new.ids, right.new.ids)
    assert torch.equal(left.prompts.mask, right.prompts.mask)
    for row, length in enumerate(LENGTHS):
        alone = Tokens.full(random_tokens(length=7).ids[row : row + 1, :length])
        assert torch.equal(model.generate(alone, max_new_tokens=5, stop=()).new.ids[0], left.new.ids[row])
    whole = left.whole
    assert whole.ids.shape == (3, 12)
    assert torch.equal(whole.lengths, torch.tensor(LENGTHS) + 5)
    assert whole.mask[:, -5:].all()


def test_transformers_generates_the_same():
    model, tokens = shared_model("gpt2"), random_tokens()
    theirs = model.hf.generate(tokens.ids, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert torch.equal(model.generate(tokens, max_new_tokens=8, stop=()).whole.ids, theirs)


def test_a_row_ends_at_its_end():
    model, tokens = shared_model("gpt2"), random_tokens()
    free = model.generate(tokens, max_new_tokens=8, stop=()).new.ids
    end = int(free[0, 3])
    found = model.generate(tokens, max_new_tokens=8, stop=[end])
    for row in range(3):
        hits = (free[row] == end).nonzero()
        length = int(hits[0]) + 1 if len(hits) else 8
        assert torch.equal(found.new.ids[row, :length], free[row, :length])
        assert found.new.mask[row].tolist() == [place < length for place in range(found.new.ids.shape[1])]
        assert not found.new.ids[row, length:].any()
    one = model.generate(tokens[:1], max_new_tokens=8, stop=[end])
    assert one.new.ids.shape[1] == int((free[0] == end).nonzero()[0]) + 1  # and nothing runs after the last


def test_the_models_own_end_of_text(tiny_gpt2):
    tiny_gpt2.hf.generation_config.eos_token_id = [3, 4]
    assert ends(tiny_gpt2.hf, tiny_gpt2.tokenizer) == sorted({3, 4, tiny_gpt2.tokenizer.eos_token_id} - {None})


def test_draws_follow_the_seed_and_the_odds():
    model = shared_model("gpt2")
    tokens = Tokens.full(random_tokens(batch=1, length=4).ids.repeat(4000, 1))
    settings = {"max_new_tokens": 1, "temperature": 0.7, "stop": ()}
    found = model.generate(tokens, seed=3, **settings).new.ids[:, 0]
    assert torch.equal(model.generate(tokens, seed=3, **settings).new.ids[:, 0], found)
    assert not torch.equal(model.generate(tokens, seed=4, **settings).new.ids[:, 0], found)
    odds = (model.logits(tokens[:1])[0, -1] / 0.7).softmax(-1)
    shares = torch.bincount(found, minlength=VOCAB) / 4000
    spread = (odds * (1 - odds) / 4000).sqrt()
    assert ((shares - odds).abs() <= 4 * spread + 1e-3).all()
    going_on = torch.Generator().manual_seed(3)
    first, second = (model.generate(tokens, seed=going_on, **settings).new.ids[:, 0] for _ in range(2))
    assert torch.equal(first, found)
    assert not torch.equal(second, found)


def test_the_cache_changes_no_draw():
    """A row's later tokens are drawn as from a pass over the whole row, with the same generator."""
    model, rows = shared_model("gpt2"), random_tokens(batch=64, length=2).ids
    found = model.generate(Tokens.full(rows), max_new_tokens=8, temperature=1.0, seed=5, stop=()).whole.ids
    draw = torch.Generator().manual_seed(5)
    for _ in range(8):
        uniform = torch.rand(64, 1, generator=draw)
        rows = torch.cat([rows, drawn(model.logits(Tokens.full(rows))[:, -1], uniform)[:, None]], dim=1)
    assert torch.equal(found, rows)


def test_sets_of_rows_that_repeat_their_draws_are_each_as_if_alone():
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).repeat(4, 1)
    logits[6:9] += torch.tensor([0.0, 0, 0, 9, 0])
    together = Sampling(1.0, repeat_every=3)
    alone = Sampling(1.0)
    draws = [torch.Generator().manual_seed(1) for _ in range(3)]
    for _ in range(20):
        found = together.choose(logits, draws[0]).view(4, 3)
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], alone.choose(logits[:3], draws[1]))
        assert torch.equal(found[2], alone.choose(logits[6:9], draws[2]))


def test_only_the_likeliest_are_drawn():
    logits = torch.tensor([[0.5, 0.2, 0.15, 0.1, 0.05]]).log().repeat(2000, 1)
    draw = torch.Generator().manual_seed(0)
    for sampling, allowed in (
        (Sampling(1.0, top_k=2), {0, 1}),
        (Sampling(1.0, top_p=0.65), {0, 1}),
        (Sampling(1.0, top_p=0.5), {0}),
        (Sampling(1.0, top_p=1.0), {0, 1, 2, 3, 4}),
        (Sampling(0.0, top_k=3), {0}),
        (Sampling(1.0, top_k=3, top_p=0.9), {0, 1, 2}),
    ):
        assert set(sampling.choose(logits, draw).tolist()) == allowed, sampling


def test_a_stream_keeps_the_edits_it_was_called_under():
    model, tokens = shared_model("gpt2"), random_tokens()
    with model.edit({Site("resid_post", 1): torch.zeros_like}):
        expected = model.generate(tokens, max_new_tokens=4, stop=()).new.ids
        stream = model.stream(tokens, max_new_tokens=4, stop=())
        first = next(stream)
    rest = [step.ids for step in stream]
    assert torch.equal(torch.stack([first.ids, *rest], dim=1), expected)
    assert not torch.equal(model.generate(tokens, max_new_tokens=4, stop=()).new.ids, expected)


def test_texts_go_in_and_come_out(tiny_gpt2):
    found = tiny_gpt2.generate([" Mary went to the store", " Tom"], max_new_tokens=3, stop=())
    assert isinstance(found, Generation)
    assert found.prompts.mask[1].tolist() == [False] * 4 + [True]
    words = tiny_gpt2.decode(found.new)
    assert [len(tiny_gpt2.tokenize([text]).ids[0]) for text in words] == [3, 3]
    assert tiny_gpt2.decode(found.prompts)[1].strip() == "Tom"


def test_what_cannot_be_generated_is_refused():
    model, tokens = shared_model("gpt2"), random_tokens()
    for settings, match in (
        ({"max_new_tokens": 0}, "max_new_tokens: expected at least 1, found 0"),
        ({"max_new_tokens": 57}, "at most 64, found 65"),
        ({"max_new_tokens": 1, "temperature": -1.0}, "temperature: expected a number from 0"),
        ({"max_new_tokens": 1, "top_k": 0}, "top_k: expected at least 1"),
        ({"max_new_tokens": 1, "top_p": 0.0}, "top_p: expected a probability above 0"),
    ):
        with pytest.raises(UsageError, match=match):
            model.generate(tokens, **settings)
    with pytest.raises(UsageError, match="repeat_every: expected at least 1"):
        Sampling(1.0, repeat_every=0)
