"""GPT-2 in flax, looked into: run as `python -m jax_gpt2.walkthrough`, or cell by cell in an editor that knows `# %%`.

The model and flax's attention are used as they are; the tags come from the patch in `sites.py`. Needs the folder of
real models (`GOSSAMER_REAL`, or ../shared/real beside the repository); dictionaries come from `train_dictionaries.py`.
"""

# %% Where things are
import argparse
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gossamer.jax import sites
from jax_gpt2 import experiments, model, pictures, prompts
from jax_gpt2.dictionary import read_set
from jax_gpt2.sites import SITES

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=Path("gossamer-out/jax_gpt2"), help="folder for the pictures")
parser.add_argument("--prompts", type=int, default=24, help="how many prompts of the template")
parser.add_argument("--dictionaries", type=Path, help="folder that DictionarySet.save wrote; left out: no splicing")
given = parser.parse_args()
given.out.mkdir(parents=True, exist_ok=True)

beside = Path(__file__).resolve().parents[2] / ".." / "shared" / "real"
real = Path(os.environ.get("GOSSAMER_REAL", beside))
folder = real / "models" / "tinytalk-3m-gpt2"
if not folder.is_dir():
    raise SystemExit(f"no model at {folder}: set GOSSAMER_REAL to the folder of real models")

# %% The model: eight layers, one traced body
gpt2, params = model.load(folder)


def forward(params: Any, tokens: jax.Array) -> jax.Array:
    """Logits (prompt, vocab) at the last position."""
    return jnp.asarray(gpt2.apply(params, tokens, last=True))


# %% The task: "One day, Anna met Daisy at the store. They were happy. Then Daisy said to" -> Anna, not Daisy
ioi = prompts.read(real / "tasks", folder / "tokenizer.json", "ABBA_store_said", given.prompts)
compiled = jax.jit(forward)
high, low = (float(ioi.difference(compiled(params, tokens))) for tokens in (ioi.clean, ioi.counterfactual))
print(f"logit difference, IO over S: clean {high:.2f}, with the other name as second subject {low:.2f}")

# %% The tags: none in the model, three under the patch
print(f"tags in the model: {len(sites(forward, params, ioi.clean))}")
SITES.install()
print(sites(forward, params, ioi.clean))

# %% Activation patching: every layer and position, one compilation (the layer is traced, positions are mapped over)
effects = experiments.activation_patching(forward, params, ioi)
exact = np.asarray(effects.values)
print(f"activation patching: {exact.size} patched runs, traced {effects.traces} time(s)")

# %% Attribution patching: one backward pass estimates every layer and position
slopes = experiments.attribution_patching(forward, params, ioi)
estimate = np.asarray(slopes.values)
agreement = float(np.corrcoef(estimate.ravel(), exact.ravel())[0, 1])
print(f"attribution patching: traced {slopes.traces} time(s), correlation with activation patching {agreement:.2f}")
pictures.patching(given.out / "patching.png", exact, estimate, ioi.labels)

# %% Head patterns, read inside flax: who looks from the last token at the indirect object?
patterns = np.asarray(experiments.head_patterns(forward, params, ioi.clean))
layer, head = pictures.heads(given.out / "heads.png", patterns.mean(1), ioi.labels)
weight = patterns[layer, :, head, -1, ioi.position("IO")].mean()
print(f"head {layer}.{head} looks from the last token at IO with weight {weight:.2f}")

# %% A gossamer dictionary in the stream: `site.edit` at chosen layers; elsewhere it costs nothing
differences: dict[str, float] = {}
if given.dictionaries is not None:
    dictionaries = read_set(given.dictionaries)
    for name, chosen in experiments.splices(list(dictionaries)).items():
        logits = experiments.spliced(forward, params, ioi.clean, {layer: dictionaries[layer] for layer in chosen})
        differences[name] = float(ioi.difference(logits))
        print(f"logit difference, {name}: {differences[name]:.2f}")
    pictures.splices(given.out / "splices.png", differences)

# %% Everything as it was: without the patch the model has no tags
SITES.uninstall()
print(f"tags in the model: {len(sites(forward, params, ioi.clean))}")
