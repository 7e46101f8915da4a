"""`gossamer steer`: push a model along a feature or towards a concept, and see what it brings and costs."""

from collections.abc import Mapping, Sequence, Set
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, out, print_json, warn_of_other_models
from gossamer.errors import UsageError

# Neutral beginnings of stories and articles, long enough for ActAdd's prompts to fit into.
_DEFAULT_PROMPTS = (
    "One day a man",
    "The first time that",
    "She said that the",
    "Then they went to",
    "I think that the",
    "There was once a",
    "It was known as",
    "He said to his",
    "In the morning the",
    "At the end of",
    "The people of the",
    "When she came home",
    "After that, they",
    "Many years later, the",
    "The story begins with",
    "We looked at the",
)
# Of these, how many are continued along one feature, where every text is printed.
_ALONG_PROMPTS = 8
# Mean residual norms that are added for the tokens that a feature makes likelier.
_AMPLIFIED = 0.4

FeatureName = Annotated[
    str | None, typer.Option("--feature", help="SITE/LATENT, as resid_post.4/123: this feature alone.")
]
SiteName = Annotated[
    str | None, typer.Option(help="Where vectors are made, if there are dictionaries of several sites.")
]
Kind = Annotated[
    str,
    typer.Option(
        help="feature_add, clamp, conditional_clamp, floor, cap or scale, for --feature.",
        callback=early.one_of("--kind", early.STEERING_KINDS),
    ),
]
UnitName = Annotated[
    str,
    typer.Option(
        help="Of --coefficients: residual_norm, max_activation or raw.",
        callback=early.one_of("--unit", early.STEERING_UNITS),
    ),
]
Rows = Annotated[int, typer.Option(help="Texts to read, from the first.", callback=early.from_least("--rows", 4))]
Neutral = Annotated[
    int,
    typer.Option(help="Rows of neutral text that the cost is measured on.", callback=early.from_least("--neutral", 2)),
]
Context = Annotated[
    int,
    typer.Option(help="Tokens of a text that are read, from the first.", callback=early.from_least("--context", 4)),
]
Samples = Annotated[
    int,
    typer.Option(
        help="Completions of each prompt; 1 for the likeliest text.", callback=early.from_least("--samples", 1)
    ),
]
NewTokens = Annotated[int, typer.Option(help="Tokens of a completion.", callback=early.from_least("--tokens", 1))]
Words = Annotated[
    str | None,
    typer.Option(help="The concept's words, as sad,cried: what completions are searched for; begins a sweep."),
]
Effects = Annotated[
    int,
    typer.Option(
        help="Directions along which the effect on features is measured, for SAE-TS and FGAA; 0: without them.",
        callback=early.from_least("--effects", 0),
    ),
]
EffectsFolder = Annotated[
    Path | None,
    typer.Option(
        help="Where these effects are kept; another concept at the same site reads them from there. "
        "Default: effects in --out."
    ),
]
By = Annotated[
    list[str] | None,
    typer.Option(
        help=f"{', '.join(early.STEERING_ROWS)} or all: rows beside those of the vector, features and controls; "
        "repeat. Default: all.",
        callback=early.one_of("--by", (*early.STEERING_ROWS, "all")),
    ),
]
ActAdd = Annotated[
    tuple[str, str] | None,
    typer.Option(help="ActAdd's two prompts: what is wanted, and what is not.", metavar="WANTED UNWANTED"),
]
Pairs = Annotated[Path | None, typer.Option(help='Lines {"positive": TEXT, "negative": TEXT}, for CAA and PCA.')]
Tasks = Annotated[
    list[str] | None, typer.Option("--task", "-t", help="A task whose accuracy is a cost as well; repeat.")
]
Endpoint = Annotated[
    str | None, typer.Option(help="A server with OpenAI's API whose model rates what is written, as explain has it.")
]
JudgeName = Annotated[str, typer.Option("--judge", help="The model that rates; its name at the server, or a folder.")]
Prefix = Annotated[
    str | None,
    typer.Option(help="What asks for the concept in words: the prompt baseline. Default: This is about WORD."),
]
Files = Annotated[Path | None, typer.Option(help=f"Texts with the concept: {options.TEXT}. Default: by --words.")]
Negative = Annotated[Path | None, typer.Option(help="Texts without the concept. Default: those without --words.")]


def steer(
    model: options.Model,
    text: Annotated[Path, typer.Option("--text", help=f"For scales, contexts and cost: {options.TEXT}.")],
    dictionaries: options.Dictionaries = None,
    text_key: options.TextKey = "text",
    fact: options.Facts = None,
    allow_other_model: options.AllowOtherModel = False,
    feature: FeatureName = None,
    site: SiteName = None,
    words: Words = None,
    positive: Files = None,
    negative: Negative = None,
    kind: Kind = "clamp",
    coefficients: Annotated[str, typer.Option("--coefficients", "-c", help="As 0.2,0.5,1.")] = "0.1,0.2,0.4,0.8,1.6",
    unit: UnitName = "residual_norm",
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", "-p", help="To be continued; repeat.", callback=early.some_text("--prompt")),
    ] = None,
    prefix: Prefix = None,
    by: By = None,
    effects: Effects = 0,
    effects_folder: EffectsFolder = None,
    act_add: ActAdd = None,
    pairs: Pairs = None,
    task: Tasks = None,
    endpoint: Endpoint = None,
    judge: JudgeName = "",
    local: Annotated[bool, typer.Option("--local", help="The judge is a transformers model in this process.")] = False,
    price: options.Price = "0,0",
    max_cost: options.MaxCost = None,
    rows: Rows = 1024,
    neutral: Neutral = 64,
    context: Context = 64,
    samples: Samples = 4,
    tokens: NewTokens = 32,
    seed: options.Seed = 0,
    output: options.Out = Path("gossamer-out/steering"),
    device: options.Device = None,
    dtype: options.Dtype = None,
    family: options.FamilyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Steer along a feature and read the text, or, with --words, sweep every way of steering towards a concept.

    With --feature: its selection scores, and completions, cost and its activation afterwards at each coefficient, with
    those of a random feature and a random direction. With --words: vectors and their parts, features, controls and the
    prompt baseline at each coefficient, with benefit, cost on neutral text and intervals; writes sweep.json as it goes,
    so that a run can be stopped, then steering.md and a picture. A language model may rate what is written (--judge).

    Example: gossamer steer bundled:spool --text text.txt --feature resid_post.4/123 -p "One day"
    Example: gossamer steer MODEL -d FOLDER --text stories.jsonl --words sad,cried,tears
    """
    facts = early.dictionary_facts(fact)
    early.require_texts([path for path in (text, positive, negative) if path is not None])
    early.require_files([] if pairs is None else [pairs], "pairs")
    made_of = {"--effects": effects, "--effects-folder": effects_folder, "--act-add": act_add, "--pairs": pairs}
    _require_one_purpose(feature, words, unit, {"--by": by, **made_of, "--task": task, "--judge": judge})
    chosen_rows = _rows(by, {option for option, value in made_of.items() if value})
    early.require_whole_judge("--judge", endpoint, judge, local=local)
    strengths = inputs.decimals("--coefficients", coefficients)
    early.require_dictionaries(dictionaries, model)
    prices = inputs.prices(price)

    from gossamer.activations import read_texts
    from gossamer.progress import progress_bars
    from gossamer.results.lock import folder_lock
    from gossamer.steering import ChatCompletionJudge, ContrastPairs, prepare_concept, sweep
    from gossamer.steering.completions import SamplingPlan

    plan = SamplingPlan(samples, tokens, temperature=0.0 if samples == 1 else 1.0, seed=seed)
    texts = read_texts(text, text_key)[:rows]
    sides = [None if path is None else read_texts(path, text_key) for path in (positive, negative)]
    chat = inputs.chat(endpoint, judge, prices, max_cost, output / "answers", local=local)
    network = inputs.language_model(model, device, dtype, family)
    held = inputs.dictionary_set(network, model, dictionaries, facts=facts, allow_other_model=allow_other_model)
    length = min(context, network.n_context)
    prompts = list(prompt or _DEFAULT_PROMPTS[: _ALONG_PROMPTS if feature is not None else None])
    if feature is not None:
        with progress_bars(err):
            shown, rising = _along(network, held, feature, kind, strengths, unit, prompts, texts, length, plan)
        _print_feature(shown, rising, prompts, as_json)
        return
    tasks = {
        Path(name).stem: inputs.task(name, network.tokenizer, bos=None, prompts=None, seed=seed) for name in task or ()
    }
    with folder_lock(output), progress_bars(err):
        chosen = _at_site(held, site)
        made = prepare_concept(
            network,
            chosen,
            inputs.words(words or ""),
            texts,
            prompts=prompts,
            positive=sides[0],
            negative=sides[1],
            context=length,
            neutral=neutral,
            rows=chosen_rows,
            effects=effects,
            effects_folder=effects_folder or output / "effects",
            pairs=None if pairs is None else ContrastPairs.read(pairs),
            act_add=act_add,
            observer=next((held[one] for one in sorted(held) if one > chosen.site), None),
            seed=seed,
            sampling=plan,
            tasks=tasks,
            judge=None if chat is None else ChatCompletionJudge(chat),
        )
        cells = made.steering.cells(strengths, prefix)
        if chat is not None:
            questions = 3 * len(cells) * len(prompts) * samples
            err.print(f"{judge} is asked {questions:,} questions, and again where an answer cannot be read")
        record = sweep(network, cells, made.plan, output, notes=made.steering.notes)
    warn_of_other_models(judge, getattr(chat, "answered_by", ()))
    _write_concept(record, made.steering, output, seed, as_json)


def _require_one_purpose(feature: str | None, words: str | None, unit: str, of_sweeps: Mapping[str, Any]) -> None:
    """Refuse a feature and a concept at once, neither, and options of the other purpose."""
    if (feature is None) == (words is None):
        raise UsageError("steer: either --feature SITE/LATENT or --words of a concept expected; give one of them")
    if words is not None and unit != "residual_norm":
        raise UsageError(f"--unit: residual_norm expected with --words, in which all methods compare; found {unit}")
    if feature is not None and (given := [option for option, value in of_sweeps.items() if value]):
        raise UsageError(f"{given[0]}: for sweeps, which --words begins; leave it out with --feature")


def _rows(by: Sequence[str] | None, given: Set[str]) -> tuple[str, ...]:
    """The rows that were asked for; one that was named and lacks what it is made of is refused."""
    if by is None or "all" in by:
        return early.STEERING_ROWS
    needs = {"sae_ts": "--effects", "fgaa": "--effects", "act_add": "--act-add", "caa": "--pairs"}
    if lacking := [one for one in by if one in needs and needs[one] not in given]:
        raise UsageError(f"--by {lacking[0]}: {needs[lacking[0]]} expected with it; give that too")
    return tuple(dict.fromkeys(by))


def _at_site(held: Any, site: str | None) -> Any:
    from gossamer.model import Site

    if site is None and len(held) > 1:
        raise UsageError(f"--site: one of {', '.join(map(str, held))} expected, as there are several dictionaries")
    chosen = next(iter(held)) if site is None else Site.parse(site)
    if chosen not in held:
        raise UsageError(f"--site: one of {', '.join(map(str, held))} expected, found {site}")
    return held[chosen]


def _along(
    model: Any,
    held: Any,
    name: str,
    kind: str,
    strengths: Sequence[float],
    unit: str,
    prompts: Sequence[str],
    texts: Sequence[str],
    length: int,
    plan: Any,
) -> tuple[Any, tuple[str, ...]]:
    """The feature pushed, and the tokens that it makes likelier everywhere."""
    from gossamer.explain.model_scorers import token_changes
    from gossamer.features import Feature
    from gossamer.steering import steer_along

    place, latent = Feature.parse(name)
    if place not in held:
        raise UsageError(f"--feature: a site of {', '.join(map(str, held))} expected, found {place}")
    tokens, dictionary = model.tokenize(texts).cut(length), held[place]
    shown = steer_along(
        model, dictionary, latent, strengths, prompts, tokens, kind=kind, unit=unit, plan=plan, seed=plan.seed
    )
    factor = shown.scale.of_norm(_AMPLIFIED, dictionary.W_dec[latent]).raw
    return shown, token_changes(model, dictionary, latent, tokens[: min(len(tokens), 16)], factor=factor, count=10)


def _print_feature(shown: Any, rising: Sequence[str], prompts: Sequence[str], as_json: bool) -> None:
    if as_json:
        from gossamer.results.values import to_json

        rows = []
        for one in shown.rows:
            raw = None if one.coefficient is None else one.coefficient.raw
            rows.append({**to_json(one), "raw": raw, "completions": dict(zip(prompts, one.completions, strict=True))})
        print_json({"scores": to_json(shown.scores), "rising": list(rising), "rows": rows})
        return
    for what, one in zip(("feature", "a random one"), shown.scores, strict=True):
        reads = "unknown" if one.input_score is None else f"{one.input_score:.2f}"
        out.print(
            f"{what} {one.feature}: input score {reads}, output score {one.output_score:.3f} (first token alone "
            f"{one.output_score_top1:.3f}), change of confidence {one.confidence_change:+.2f}; writes "
            f"{', '.join(map(repr, one.lens))}",
            soft_wrap=True,
        )
    out.print(f"amplified, it makes likelier: {', '.join(map(repr, rising))}", soft_wrap=True)
    for one in shown.rows:
        said = one.method if one.coefficient is None else f"{one.method} {one.coefficient}"
        back = "" if one.back is None else f", mean activation {one.back.before:.3g} before, {one.back.after:.3g} after"
        cost = f", costs {one.cross_entropy:.3f} nats a token (KL {one.kl:.3f})"
        odds = f", log-probability of the text {one.log_probability:.2f} a token"
        out.print(f"{said}{back}{cost}{odds}", style="bold", soft_wrap=True)
        for prompt, text in zip(prompts, one.completions, strict=True):
            out.print(f"  {prompt}|{text}", soft_wrap=True)


def _write_concept(record: Any, ways: Any, output: Path, seed: int, as_json: bool) -> None:
    from gossamer.report.steering import write_steering
    from gossamer.steering import sweep_curves
    from gossamer.steering.agreement import judged_examples
    from gossamer.steering.concept import ORIGINAL
    from gossamer.steering.effects import said_of_fit
    from gossamer.steering.sweep import gold_of

    fitted, warned = ways.effects_explained, ways.notes.warned
    picture = write_steering(record, output, ORIGINAL, scores=ways.scores, seed=seed)
    said = {name: said_of_fit(name, explained) for name, explained in fitted.items()}
    for name in warned:
        err.print(said[name], style="bold red", soft_wrap=True)
    curves, examples = sweep_curves(record, ORIGINAL, seed=seed), judged_examples(record, seed=seed)
    ratings = [row.judged for row in record.rows if row.judged is not None]
    judge = {name: sum(getattr(one, name) for one in ratings) for name in ("rated", "unparsed", "error")}
    gold = gold_of(record)
    agree = [sum(one.agrees for one in examples), len(examples)]
    if as_json:
        methods = {one.method: _method_json(one, fitted) for one in curves}
        told = {"methods": methods, "absent": dict(ways.absent), "cells": len(record.rows)}
        known = None if gold is None else {**gold.to_json(), "ability": gold.ability}
        print_json(told | ({"judge": {**judge, "agrees": agree, "gold": known}} if ratings else {}))
        return
    table = Table("method", "area", "95 %", "less diff_mean", "improves", box=None, padding=(0, 1, 0, 0))
    for one in sorted(curves, key=lambda curve: -curve.area.value):
        interval = f"[{one.area.low:.3f}, {one.area.high:.3f}]"
        cell = (f"{one.area.value:.3f}", interval, f"{one.difference.value:+.3f}", "yes" if one.improves else "")
        table.add_row(f"{one.method} (!)" if one.method in warned else one.method, *cell)
    out.print(table)
    for name in fitted:
        if name not in warned:
            out.print(said[name], soft_wrap=True)
    for name, reason in ways.absent.items():
        out.print(f"no {name}: {reason}", soft_wrap=True)
    if ratings:
        failed = f"{judge['unparsed']} completions have no rating that could be read, {judge['error']} no answer"
        out.print(f"the judge agrees with the words at {agree[0]} of {agree[1]} completions; {failed}", soft_wrap=True)
    if gold is not None:
        out.print(f"the judge: {gold.said}", soft_wrap=True)
    out.print(f"wrote {picture} with steering.md, steering.html and sweep.json", soft_wrap=True)


def _method_json(curve: Any, fitted: Mapping[str, float]) -> dict[str, Any]:
    """A method's curve, and what the fit of effects explains that its vector rests on."""
    from gossamer.steering.effects import predicts, said_of_fit

    found = {
        "area": [curve.area.value, curve.area.low, curve.area.high],
        "difference": [curve.difference.value, curve.difference.low, curve.difference.high],
        "improves": curve.improves,
    }
    if (explained := fitted.get(curve.method)) is None:
        return found
    warning = None if predicts(explained) else said_of_fit(curve.method, explained)
    return {**found, "effects_explained": explained if isfinite(explained) else None, "warning": warning}
