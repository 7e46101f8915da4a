"""Attribution through attention: all latents at once beside one at a time, a tree of 200 nodes, pairs without a table.

    python benchmarks/attribution.py [--quick] [--json]

Random weights in the shape of GPT-2 small: a layer of 12 heads of 64, a dictionary on z with about 20 latents active at
each of 128 tokens, different ones at different tokens. "One at a time" is the loop of published code, one latent at one
token after the other: the values weighted by the pattern (z before its sum over sources), times the latent's encoder.
Times are CPU seconds, the least of several turns. Pairs: 16,384 latents on each side,
the 100 largest products of their 64-wide queries and keys, beside the dense table. The tree is of the bundled model.
"""

import resource
import subprocess
import sys
import time

import torch
from rows import Row, parser, row, show

from gossamer import DictionarySet, LanguageModel, bundled
from gossamer.attention import FrozenPass, direct_attribution, logit_root, top_pairs, trace
from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.model import Site
from gossamer.tokens import Tokens

TOKENS, LATENTS, K = 128, 24_576, 20
N_PAIRS, PAIRS = 16_384, 100


def gpt2_small() -> LanguageModel:
    """Two layers of GPT-2 small's shape, random."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    hf = GPT2LMHeadModel(GPT2Config(n_layer=2, vocab_size=1000, bos_token_id=0, eos_token_id=0)).eval()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")))
    return LanguageModel.load(hf, tokenizer=tokenizer)


def z_dictionary(n: int, mean: torch.Tensor) -> Dictionary:
    """A random TopK dictionary on z, whose latents see what differs between tokens."""
    config = DictionaryConfig("topk", 768, n, site=Site("z", 1), k=K, subtract_b_dec=True)
    made = Dictionary(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.01)
        assert made.b_enc is not None
        made.b_enc.zero_()
        # What is written does not matter here, but must be no further from z than its mean is.
        made.W_dec.mul_(1e-3)
        made.b_dec.copy_(mean)
    return made.requires_grad_(False)


def seconds(work, turns: int) -> float:  # noqa: ANN001
    """CPU seconds of the shortest of some turns."""
    found = []
    for _ in range(turns):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def one_at_a_time(frozen: FrozenPass, n: int) -> list[torch.Tensor]:
    """Heads and sources of the first `n` active latents, one by one."""
    codes, pattern = frozen.codes_at("z.1"), frozen.values[Site("pattern", 1)]
    values = frozen.repeated_values(1)
    found = []
    for token, latent in zip(codes.latents.tokens[:n].tolist(), codes.latents.latents[:n].tolist(), strict=True):
        encoder = torch.unflatten(codes.dictionary.W_enc[:, latent], -1, (12, 64))
        weighted = pattern[0, :, token].T.unsqueeze(-1) * values[0]
        found.append((weighted * encoder).sum(dim=-1).T)
    return found


def direct_rows(quick: bool) -> list[Row]:
    """All active latents in one pass beside the loop."""
    model = gpt2_small()
    tokens = Tokens.full(torch.randint(1, 1000, (1, TOKENS), generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        mean = model.capture(tokens, ["z.1"])["z.1"].mean(dim=(0, 1))
        frozen = FrozenPass.of(model, [z_dictionary(LATENTS // (4 if quick else 1), mean)], tokens)
        entries = len(frozen.codes_at("z.1").latents.latents)
        sample = min(entries, 200)
        ours = seconds(lambda: direct_attribution(frozen, "z.1"), 9)
        theirs = seconds(lambda: one_at_a_time(frozen, sample), 3) * entries / sample
        found = direct_attribution(frozen, "z.1").contributions
        apart = max(
            float((found[number] - one).abs().max()) for number, one in enumerate(one_at_a_time(frozen, sample))
        )
    what = f"heads and sources of {entries:,} active latents, {TOKENS} tokens"
    return [
        row(what, ours, theirs, "s", "at least 20x", theirs / ours >= 20),
        row(f"{what}: results apart", apart, 1e-5, "abs", "<= 1e-5", apart <= 1e-5),
    ]


def tree_rows() -> list[Row]:
    """A tree of 200 nodes on the bundled model."""
    model = LanguageModel.load("bundled:spool")
    dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries")
    tokens = model.tokenize(["Then, David and Daisy were working at the park. Daisy decided to give a snack to"])
    right, wrong = (
        torch.tensor(model.tokenizer(one, add_special_tokens=False)["input_ids"]) for one in (" David", " Daisy")
    )
    with torch.no_grad():
        frozen = FrozenPass.of(model, dictionaries, tokens)
        root = logit_root(frozen, right, wrong, tokens.last)
        ours = seconds(lambda: trace(frozen, root, nodes=200), 3)
    return [row("a tree of 200 nodes on the bundled model", ours, 2.0, "s", "<= 2 s", ours <= 2.0)]


def pairs_child(dense: bool, n: int) -> None:
    """Seconds and peak memory of one way to the pairs, printed: each has a process of its own."""
    draw = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(n, 64, generator=draw) * torch.rand(n, 1, generator=draw) ** 2 for _ in range(2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def table() -> None:
        (queries @ keys.T).flatten().abs().topk(PAIRS)

    work = table if dense else (lambda: top_pairs(queries, keys, PAIRS))
    taken = seconds(work, 3)
    sys.stdout.write(f"{taken} {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}\n")


def pairs_rows(n: int) -> list[Row]:
    """The largest pairs of queries and keys without their table."""
    found = {}
    for dense in ("0", "1"):
        done = subprocess.run(
            [sys.executable, __file__, "--pairs-child", dense, str(n)], check=True, capture_output=True, text=True
        )
        found[dense] = [float(one) for one in done.stdout.split()[-2:]]
    (ours, memory), (theirs, table) = found["0"], found["1"]
    what = f"top {PAIRS} pairs of {n:,} x {n:,} latents"
    return [
        row(what, ours, theirs, "s", "no slower", ours <= theirs),
        row(f"{what}: memory", memory, table, "MiB", "less than half", memory < table / 2),
    ]


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--pairs-child"]:
        pairs_child(sys.argv[2] == "1", int(sys.argv[3]))
        return
    options = parser(__doc__ or "", "a quarter of the latents").parse_args()
    torch.set_num_threads(1)
    rows = [*direct_rows(options.quick), *tree_rows(), *pairs_rows(N_PAIRS // (4 if options.quick else 1))]
    show(rows, options.json)


if __name__ == "__main__":
    main()
