"""`gossamer train`: dictionaries for a model, from text."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from gossamer.cli import early, finetuning, inputs, options
from gossamer.cli.printing import err, number, out, print_json
from gossamer.errors import UsageError

Text = Annotated[list[Path], typer.Option("--text", help=f"Ordinary {options.TEXT}; repeat.")]
Layers = Annotated[
    str | None, typer.Option(help="Residual streams after these layers, as 2,4,6; default: the model's recipe.")
]
Sites = Annotated[str | None, typer.Option(help="Sites instead, as resid_post.3,attn_out.4,mlp_out.3.")]
SitesOut = Annotated[
    str | None,
    typer.Option(help="Transcoders: where each of --sites writes, as mlp_out.3 for mlp_in.3; they are not fine-tuned."),
]
Objective = Annotated[
    str | None,
    typer.Option(
        help="batchtopk, topk, matryoshka, l1, norm_weighted_l1, gated, jumprelu_step, jumprelu_tanh or "
        "jumprelu_quadratic; several as topk,l1. Default: the model's recipe, as for all that follows."
    ),
]
Widths = Annotated[str | None, typer.Option(help="Latents of a dictionary; several as 2048,8192.")]
Sparsities = Annotated[
    str | None, typer.Option("--k", help="Active latents per token (topk family); several as 16,32.")
]
Penalty = Annotated[
    str | None, typer.Option(help="Coefficient of the sparsity penalty (other objectives); several as 0.5,2.")
]
Targets = Annotated[
    str | None,
    typer.Option(
        "--l0", help="L0 to reach (jumprelu_quadratic), about: --penalty 5 holds it tighter; several as 16,32."
    ),
]
Seeds = Annotated[str | None, typer.Option(help="Seeds of initial weights; several as 0,1,2. Default: that of --seed.")]
Tokens = Annotated[int | None, typer.Option(help="Activations to learn from.")]
Batch = Annotated[int | None, typer.Option(help="Activations in one step.")]
Accumulate = Annotated[int, typer.Option(help="Parts in which a batch is computed, when memory is short.")]
LearningRate = Annotated[float | None, typer.Option(help="Peak of Adam's learning rate.")]
EncoderScale = Annotated[
    float | None,
    typer.Option(
        help="The encoder starts as this times the decoder transposed; below 1 explains more, with more dead latents."
    ),
]
Buffer = Annotated[
    int | None,
    typer.Option(help="Activations captured and shuffled together at every site; fewer take less memory."),
]
Context = Annotated[int | None, typer.Option(help="Tokens of a row of text, BOS included.")]
RowsBos = Annotated[
    bool | None, typer.Option("--bos/--no-bos", help="All rows begin with BOS, or none; default: the recipe's share.")
]
Sensitivity = Annotated[
    float | None,
    typer.Option(
        help="How far errors count by what the model's output minds, 0 to 0.99; 0: evenly, and no passes for it."
    ),
]
SensitivityRows = Annotated[
    int | None, typer.Option(help="Rows of text that this is estimated from, at most; each costs several passes.")
]
Control = Annotated[
    str | None,
    typer.Option(
        help="Train what claims are held against: frozen-decoder, soft-frozen, frozen-encoder (these stay as they "
        "begin) or random-model (activations of a model with random weights).",
        callback=early.one_of("--control", early.TRAINING_CONTROLS),
    ),
]
Autocast = Annotated[bool, typer.Option("--autocast", help="The dictionaries' products in bfloat16.")]
Cache = Annotated[
    Path | None,
    typer.Option(
        help="Keep activations in this folder, shuffled and checksummed, and learn from there; further runs on the "
        "same text and sites read them. Default: the model runs whenever more are needed."
    ),
]
Formats = Annotated[
    list[str] | None,
    typer.Option("--format", help="sparsify or gemma_scope: save so too, beside SAELens' format; repeat."),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(help="wandb or tensorboard: send metrics there too, beside metrics.jsonl; repeat."),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Working folder; default: in $GOSSAMER_CACHE or ~/.cache/gossamer.",
        callback=early.writable_folder,
    ),
]


def train(
    model: options.Model,
    text: Text,
    text_key: options.TextKey = "text",
    layers: Layers = None,
    sites: Sites = None,
    sites_out: SitesOut = None,
    objective: Objective = None,
    n_latents: Widths = None,
    k: Sparsities = None,
    penalty: Penalty = None,
    l0: Targets = None,
    seeds: Seeds = None,
    tokens: Tokens = None,
    finetune_tokens: finetuning.FinetuneTokens = None,
    end_to_end: finetuning.EndToEnd = False,
    source: finetuning.From = None,
    tasks: finetuning.Tasks = None,
    prompts: options.Prompts = None,
    prompt_share: finetuning.PromptShare = None,
    similar_words: finetuning.SimilarWords = None,
    split_by: options.TaskSplit = None,
    finetune_k: finetuning.FinetuneK = None,
    finetune_learning_rate: finetuning.FinetuneLearningRate = None,
    thresholds: finetuning.Thresholds = None,
    batch: Batch = None,
    accumulate: Accumulate = 1,
    learning_rate: LearningRate = None,
    encoder_scale: EncoderScale = None,
    control: Control = None,
    autocast: Autocast = False,
    buffer: Buffer = None,
    context: Context = None,
    bos: RowsBos = None,
    leave_out_special: options.LeaveOutSpecial = False,
    leave_out_louder: options.LeaveOutLouder = None,
    positions: options.Positions = None,
    sensitivity: Sensitivity = None,
    sensitivity_rows: SensitivityRows = None,
    cache: Cache = None,
    formats: Formats = None,
    metrics: Metrics = None,
    output: Output = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.Dtype = None,
    family: options.FamilyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Train dictionaries for a model from text: train each, fine-tune together. Stops and resumes at any moment.

    The same command goes on where it stopped. Of --objective, --n-latents, --k, --penalty, --l0 and --seeds every
    combination is trained, all from the same passes of the model. Fine-tuned they are spliced in together, at whatever
    sites, on what the model says of text and of prompts (--task); --from does only that. Started by torchrun, all
    processes train the same dictionaries.

    Example: gossamer train MODEL --text stories.jsonl --layers 4,8 --tokens 2000000 --out trained
    """
    early.require_texts(text)
    wanted = finetuning.Finetuning(
        end_to_end,
        finetune_tokens,
        prompt_share,
        finetune_k,
        finetune_learning_rate,
        thresholds,
        prompts,
        similar_words,
        split_by,
    )
    finetuning.require_sense(tasks or (), wanted)
    if sites_out is not None and (tasks or end_to_end):
        raise UsageError("--sites-out: transcoders are not fine-tuned; leave out --task and --end-to-end")
    if source is not None:
        early.require_dictionaries(source)
        finetuning.require_nothing_fitted(locals())

    from gossamer.activations import read_texts
    from gossamer.progress import progress_bars
    from gossamer.training import recipe_for, train_sets, train_transcoders
    from gossamer.training.parallel import joined

    places = _sites(layers, sites)
    pairs = _pairs(places, sites_out, finetune_tokens, formats)
    texts = [line for file in text for line in read_texts(file, text_key)]
    with joined(device) as processes:
        network = inputs.language_model(model, device, dtype, family)
        recipe, tuned = recipe_for(network), finetune_tokens if pairs is None else 0
        asked = _with_loop(recipe.config, seed, tokens, tuned, batch, accumulate, autocast, buffer, sensitivity_rows)
        asked = replace(asked, trainer=_with_changes(asked.trainer, learning_rate, encoder_scale, sensitivity))
        if control is not None:
            asked = replace(asked, trainer=replace(asked.trainer, control=control))
        asked = finetuning.with_finetuning(asked, replace(wanted, tokens=tuned), network.d_model)
        of_tasks = finetuning.task_prompts(tasks or (), network, wanted, seed)

        def rows(corpus: Any, where: Sequence[Any]) -> Any:
            said = leave_out_special or leave_out_louder is not None or positions is not None
            mask = inputs.token_mask(leave_out_special, leave_out_louder, positions, where) if said else corpus.mask
            return _with_rows(corpus, context, bos, mask)

        with progress_bars(err) if processes.writes else nullcontext():
            found: Mapping[str, Any]
            if source is not None:
                found = {"": finetuning.finetuned(network, model, source, texts, asked, rows, of_tasks, output)}
            else:
                where = places or recipe.sites
                asked = replace(asked, corpus=rows(asked.corpus, where))
                chosen = _combinations(asked.trainer, objective, n_latents, k, penalty, l0, seeds, seed)
                more: dict[str, Any] = {"cache": cache, "also": metrics or ()}
                if pairs is None:
                    more |= {"formats": formats or (), "prompts": of_tasks}
                    found = train_sets(network, texts, where, _tunable(asked, chosen), chosen, output, **more)
                else:
                    found = train_transcoders(network, texts, pairs, _tunable(asked, chosen), chosen, output, **more)
        if processes.writes:
            _print_sets(found, as_json)


def _combinations(
    trainer: Any,
    objective: str | None,
    n_latents: str | None,
    k: str | None,
    penalty: str | None,
    l0: str | None,
    seeds: str | None,
    seed: int,
) -> list[Any]:
    """A plan for every combination of what was given."""
    from gossamer.training.sweep_specs import sweep_specs

    return sweep_specs(
        trainer,
        objective=() if objective is None else inputs.words(objective),
        n_latents=() if n_latents is None else inputs.numbers("--n-latents", n_latents),
        k=() if k is None else inputs.numbers("--k", k),
        penalty=() if penalty is None else inputs.decimals("--penalty", penalty),
        l0=() if l0 is None else inputs.decimals("--l0", l0),
        seeds=[seed] if seeds is None else inputs.numbers("--seeds", seeds),
    )


def _sites(layers: str | None, sites: str | None) -> list[Any] | None:
    from gossamer.model import Site

    if layers is not None and sites is not None:
        raise UsageError("--layers and --sites: one of the two expected; --layers 3 is --sites resid_post.3")
    if sites is not None:
        return [Site.parse(site) for site in inputs.words(sites)]
    return None if layers is None else [Site("resid_post", layer) for layer in inputs.numbers("--layers", layers)]


def _pairs(
    places: Sequence[Any] | None,
    sites_out: str | None,
    finetune_tokens: int | None,
    formats: Sequence[str] | None,
) -> dict[Any, Any] | None:
    """Where transcoders read and where they write, if any are asked for."""
    from gossamer.model import Site

    if sites_out is None:
        return None
    if finetune_tokens:
        raise UsageError("--finetune-tokens: transcoders are not fine-tuned on the model's logits; leave it out")
    if formats:
        raise UsageError("--format: transcoders are saved as saelens, topk ones as sparsify; leave it out")
    written = [Site.parse(site) for site in inputs.words(sites_out)]
    if len(written) != len(places or ()):
        raise UsageError(f"--sites-out: one for each of --sites expected, found {len(written)} for {len(places or ())}")
    pairs = dict(zip(places or (), written, strict=True))
    if len(pairs) < len(written):
        raise UsageError("--sites: each once expected, with one of --sites-out; train the others in another run")
    return pairs


def _with_loop(
    config: Any,
    seed: int,
    tokens: int | None,
    finetune_tokens: int | None,
    batch: int | None,
    accumulate: int,
    autocast: bool,
    buffer: int | None,
    sensitivity_rows: int | None,
) -> Any:
    """The recipe's settings, with those that were given in their place."""
    fit = config.fit
    # A 0 is no request for the default: the settings refuse it.
    count = fit.tokens if tokens is None else tokens
    size = fit.batch if batch is None else batch
    if finetune_tokens is None:
        finetune_tokens = round(config.finetune.tokens * max(0, count) / fit.tokens)
    buffer = max(size, fit.buffer) if buffer is None else buffer
    rows = fit.sensitivity_rows if sensitivity_rows is None else sensitivity_rows
    fit = replace(fit, sensitivity_rows=rows)
    fit = replace(fit, tokens=count, batch=size, buffer=buffer, accumulate=accumulate, autocast=autocast)
    finetune = replace(config.finetune, tokens=finetune_tokens)
    return replace(config, fit=fit, finetune=finetune, seed=seed)


def _with_rows(corpus: Any, context: int | None, bos: bool | None, mask: Any) -> Any:
    share = corpus.bos if bos is None else float(bos)
    return replace(corpus, context=corpus.context if context is None else context, bos=share, mask=mask)


def _with_changes(
    trainer: Any, learning_rate: float | None, encoder_scale: float | None, sensitivity: float | None
) -> Any:
    if sensitivity is not None:
        trainer = replace(trainer, sensitivity=sensitivity)
    if learning_rate is not None:
        trainer = replace(trainer, optimiser=replace(trainer.optimiser, learning_rate=learning_rate))
    return trainer if encoder_scale is None else replace(trainer, encoder_scale=encoder_scale)


def _tunable(config: Any, chosen: Sequence[Any]) -> Any:
    """Without the fine-tuning, if something asked for cannot be fine-tuned."""
    from gossamer.training.end_to_end_trainer import ARCHITECTURES

    if {one.trainer.architecture for one in chosen} <= set(ARCHITECTURES):
        return config
    if config.finetune.tokens:
        err.print("no fine-tuning on the model's logits: it takes topk, batchtopk and jumprelu")
    return replace(config, finetune=replace(config.finetune, tokens=0))


def _print_sets(found: Mapping[str, Any], as_json: bool) -> None:
    folders = {name: str(Path(next(iter(one.values())).provenance["source"]).parent) for name, one in found.items()}
    if as_json:
        sets = [
            {"name": name, "folder": folders[name], "sites": {str(s): asdict(d.reported) for s, d in one.items()}}
            for name, one in found.items()
        ]
        print_json({"folder": sets[0]["folder"], "sites": sets[0]["sites"]} if "" in found else {"sets": sets})
        return
    table = Table("set", "site", "latents", "L0", "explained variance", box=None)
    # Names differ at their ends, which a narrow terminal would cut off.
    table.columns[0].overflow = "fold"
    for name, one in found.items():
        for site, dictionary in one.items():
            reported = dictionary.reported
            numbers = (number(reported.l0, 1), number(reported.explained_variance, 3))
            place = str(site) if dictionary.site_out is None else f"{site} > {dictionary.site_out}"
            table.add_row(name or "-", place, str(dictionary.n_latents), *numbers)
    out.print(table)
    for name, folder in folders.items():
        for sentence in _effect(found[name]):
            out.print(sentence, soft_wrap=True)
        out.print(f"dictionaries in {folder}", soft_wrap=True)


def _effect(dictionaries: Mapping[Any, Any]) -> Iterator[str]:
    """What a fine-tuning changed, where there was one."""
    said = next(iter(dictionaries.values())).provenance.get("training", {})
    if (changed := said.get("finetuning")) is None:
        return
    yield (
        f"fine-tuned: KL to the model {changed['kl_before']:.3f} before, {changed['kl']:.3f} now on held-out text "
        f"(cross-entropy {changed['ce_before']:.3f}, {said['held_out']['ce_spliced']:.3f}; the model's own "
        f"{said['held_out']['ce_model']:.3f})"
    )
    if "answer_kl" in changed:
        yield (
            f"at the answers of the training prompts {changed['answer_kl_before']:.3f} before, "
            f"{changed['answer_kl']:.3f} now; gossamer evaluate --task measures held-out ones"
        )
