"""`gossamer compare-recipes`: which changes to how dictionaries learn are worth it on a model."""

from pathlib import Path
from typing import Annotated

import typer

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, out, print_json

Texts = Annotated[list[Path], typer.Option("--text", help=f"Ordinary {options.TEXT}; repeat.")]
Output = Annotated[
    Path,
    typer.Option("--out", help="Folder for results, table, pictures and checkpoint.", callback=early.writable_folder),
]
Where = Annotated[str | None, typer.Option(help="Where, such as resid_post.2; default: the middle of the model.")]
Variants = Annotated[
    list[str] | None, typer.Option(help="A variant to train beside the baseline, by name; repeat. Default: all.")
]


def compare_recipes(
    model: options.Model,
    text: Texts,
    output: Output,
    text_key: options.TextKey = "text",
    site: Where = None,
    latents: Annotated[int, typer.Option(help="Latents of each dictionary.")] = 1024,
    coefficients: Annotated[str, typer.Option(help="Weights of the L1 penalty.")] = "0.3,1,3",
    variant: Variants = None,
    seeds: Annotated[int, typer.Option(help="Initial weights and orders of the data for each.")] = 3,
    tokens: Annotated[int, typer.Option(help="Activations that each learns from.")] = 1_000_000,
    batch: Annotated[int, typer.Option(help="Activations in one step.")] = 512,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.Dtype = None,
    family: options.FamilyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Train a grid of dictionaries: each published improvement alone, all together, and each remedy for dead latents.

    All of a seed are trained in one pass of the model. Stops and resumes at any moment. Writes results.json, table.md
    and two pictures: what is kept at which sparsity, and how many latents die.

    Example: gossamer compare-recipes MODEL --text stories.jsonl --out recipes
    """
    early.require_texts(text)
    early.at_least("--batch", batch, 1)
    early.at_least("--tokens", tokens, batch)
    weights = tuple(inputs.decimals("--coefficients", coefficients))

    from dataclasses import asdict

    from gossamer.activations import read_texts
    from gossamer.model import Site
    from gossamer.progress import progress_bars
    from gossamer.report.recipe_comparison import draw
    from gossamer.training.config import FitConfig
    from gossamer.training.recipe_comparison import RecipeComparisonConfig
    from gossamer.training.recipe_comparison import compare_recipes as run
    from gossamer.training.recipes import general

    network = inputs.language_model(model, device, dtype, family)
    where = Site("resid_post", (network.n_layers - 1) // 2) if site is None else Site.parse(site)
    steps = tokens // batch
    config = RecipeComparisonConfig(
        latents,
        weights,
        seeds,
        dead_after=max(batch, tokens // 20),
        recovery=max(1, steps // 20),
        only=tuple(variant or ()),
    )
    # Padding counts as part of a buffer: with short texts it is most of it.
    buffer = min(131_072, 4 * tokens)
    loop = FitConfig(tokens=tokens, batch=batch, buffer=buffer, log_every=max(1, steps // 50))
    texts = [line for file in text for line in read_texts(file, text_key)]
    with progress_bars(err):
        found = run(network, texts, where, config, general(network).config.corpus, loop, output, seed=seed)
    pictures = draw(found, output)
    if as_json:
        print_json(asdict(found))
        return
    out.print((output / "table.md").read_text(encoding="utf-8"), soft_wrap=True)
    names = ", ".join(path.name for path in pictures)
    out.print(f"results in {output}: results.json, table.md, {names}", soft_wrap=True)
