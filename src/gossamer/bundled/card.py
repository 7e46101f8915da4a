"""The card that lies beside the bundled model: what it is, what it can do, how it was made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossamer.bundled.dictionaries import CONFIG, OBJECTIVE, SITES, TEXTS
from gossamer.files import write_text

_CARD = """\
# {name}: a small GPT-2 for sparse feature circuits

A GPT-2 with {parameters:,} parameters ({n_layers} layers, width {d_model}, {n_heads} heads, context {context},
{vocabulary} byte-level BPE tokens), trained by gossamer on text that gossamer generates; nothing in it comes from
elsewhere. It does the bundled tasks and little else: it is a subject for interpretability, not a language model to
talk to. Texts begin with `<|endoftext|>` (BOS). Weights are stored in float16 and run in float32.

## Accuracy

Share of held-out prompts on which the answer is the most likely token of the whole vocabulary, on up to {prompts}
prompts of each task (the simple agreement has only a handful that are held out). Agreement is asked with is/are,
which the corpus makes the most likely verb; the other verb pairs agree too but are not the first choice.

| task | top-1 |{kept_head}
|---|---|{kept_rule}
{rows}

Held out means: one tenth of all prompts, chosen by a hash of the text, never occurs in the corpus, neither as a
document's beginning nor as a later lookup of a session. Lists have 6 different digits, dictionaries 5 keys; half of the
code prompts ask for what is not there and are answered by `Traceback`.
{dictionaries}
## How it was made

    python -m gossamer.bundled.build --out {name} --seed {seed} --steps {steps}

Not all weights start at random: two heads of the first layer begin as rough sketches that look one and two tokens back,
one head of the second as a sketch that compares what they found (`gossamer.bundled.start`). Training was free to keep
them or not; keep it in mind before calling a lookup found here emergent.

Training took {seconds} seconds on {threads} CPU thread(s), beside other work, with torch {torch}. The same seed, torch,
processor type and number of threads give the same weights. Corpus: `gossamer.bundled.corpus`; training:
`gossamer.bundled.training`; all settings and results: `build.json`.

Licence: that of gossamer (MIT).
"""

_DICTIONARIES = """
## Dictionaries

BatchTopK dictionaries at {sites}: {n_latents} latents each, k = {k}, trained on {texts:,} texts of
the corpus and then fine-tuned together on the model's logits. "kept" is the mean logit difference (answer minus the
counterfactual's answer) with all of them spliced in and their errors dropped, as a share of the model's own.
"""


def write_card(folder: Path, facts: Mapping[str, Any], prompts: int) -> None:
    """Write `folder`/CARD.md from the facts of a build (those of build.json)."""
    kept = facts.get("dictionaries")
    rows = [
        f"| {task} | {score:.3f} |" + (f" {kept[task]:.3f} |" if kept else "")
        for task, score in facts["accuracy"].items()
    ]
    dictionaries = _DICTIONARIES.format(
        sites=", ".join(map(str, SITES)), n_latents=CONFIG.trainer.n_latents, k=OBJECTIVE.k, texts=TEXTS
    )
    card = _CARD.format(
        name=folder.name,
        prompts=prompts,
        kept_head=" kept |" if kept else "",
        kept_rule="---|" if kept else "",
        rows="\n".join(rows),
        dictionaries=dictionaries if kept else "",
        **facts["recipe"],
        **{key: facts[key] for key in ("parameters", "vocabulary", "seconds", "threads", "torch")},
    )
    write_text(folder / "CARD.md", card)
