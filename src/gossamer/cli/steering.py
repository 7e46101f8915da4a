"""`gossamer steer`: push a model along a feature or towards a concept, and see what it brings and costs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, out, print_json
from gossamer.errors import UsageError

_DEFAULT_PROMPTS = ("One day", "The", "She", "Then", "I think", "There was", "It was", "He said")

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
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="To be continued; repeat.")] = None,
    prefix: Annotated[str, typer.Option(help="What asks for the concept in words: the prompt baseline.")] = "",
    rows: Rows = 1024,
    neutral: Neutral = 64,
    context: Context = 64,
    samples: Samples = 8,
    tokens: NewTokens = 32,
    seed: options.Seed = 0,
    output: options.Out = Path("gossamer-out/steering"),
    device: options.Device = None,
    dtype: options.Dtype = None,
    family: options.FamilyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Steer along a feature and read the text, or, with --words, sweep every way of steering towards a concept.

    With --feature: completions at each coefficient, and the feature's activation afterwards. With --words: vectors and
    their parts, features, controls and the prompt baseline at each coefficient, with benefit, cost on neutral text and
    intervals; writes sweep.json as it goes, so that a run can be stopped, then steering.md and a picture.
    """
    early.require_dictionaries(dictionaries)
    facts = early.dictionary_facts(fact)
    early.require_texts([path for path in (text, positive, negative) if path is not None])
    if (feature is None) == (words is None):
        raise UsageError("steer: either --feature SITE/LATENT or --words of a concept expected; give one of them")
    if words is not None and unit != "residual_norm":
        raise UsageError(f"--unit: residual_norm expected with --words, in which all methods compare; found {unit}")

    strengths = inputs.decimals("--coefficients", coefficients)

    from gossamer.activations import read_texts
    from gossamer.progress import progress_bars
    from gossamer.report.steering import write_steering
    from gossamer.results.lock import folder_lock
    from gossamer.steering.completions import SamplingPlan
    from gossamer.steering.concept import ORIGINAL
    from gossamer.steering.prepare import prepare_concept
    from gossamer.steering.sweep import sweep, sweep_curves

    plan = SamplingPlan(samples, tokens, temperature=0.0 if samples == 1 else 1.0, seed=seed)
    texts = read_texts(text, text_key)[:rows]
    sides = [None if path is None else read_texts(path, text_key) for path in (positive, negative)]
    network = inputs.language_model(model, device, dtype, family)
    held = inputs.dictionary_set(network, model, dictionaries, facts=facts, allow_other_model=allow_other_model)
    length = min(context, network.n_context)
    prompts = list(prompt or _DEFAULT_PROMPTS)
    if feature is not None:
        with progress_bars(err):
            shown = _along_feature(network, held, feature, kind, strengths, unit, prompts, texts, length, plan)
        _print_feature(shown, as_json)
        return
    assert words is not None
    with folder_lock(output), progress_bars(err):
        made = prepare_concept(
            network,
            _at_site(held, site),
            inputs.words(words),
            texts,
            prompts=prompts,
            positive=sides[0],
            negative=sides[1],
            context=length,
            neutral=neutral,
            sampling=plan,
            seed=seed,
        )
        record = sweep(network, made.steering.cells(strengths, prefix), made.plan, output)
    ways = made.steering
    picture = write_steering(record, output, ORIGINAL, fits=ways.fits, absent=ways.absent, seed=seed)
    _print_concept(sweep_curves(record, ORIGINAL, seed=seed), ways.absent, len(record.rows), as_json)
    if not as_json:
        out.print(f"wrote {picture} with steering.md and sweep.json", soft_wrap=True)


def _at_site(held: Any, site: str | None) -> Any:
    from gossamer.model import Site

    if site is None and len(held) > 1:
        raise UsageError(f"--site: one of {', '.join(map(str, held))} expected, as there are several dictionaries")
    chosen = next(iter(held)) if site is None else Site.parse(site)
    if chosen not in held:
        raise UsageError(f"--site: one of {', '.join(map(str, held))} expected, found {site}")
    return held[chosen]


def _along_feature(
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
) -> list[dict[str, Any]]:
    """What is written at each coefficient, the unsteered text first, with the activation read back."""
    from gossamer.features import Feature
    from gossamer.steering import Coefficient, intervention, measure_site, read_back
    from gossamer.steering.cell import Cell
    from gossamer.steering.completions import complete
    from gossamer.steering.concept import behind_first

    place, latent = Feature.parse(name)
    if place not in held:
        raise UsageError(f"--feature: a site of {', '.join(map(str, held))} expected, found {place}")
    dictionary = held[place]
    make = getattr(intervention, kind)
    push = make(dictionary, latent, 1.0).where(behind_first(model))
    tokens = model.tokenize(texts).cut(length)
    scale = measure_site(model, place, tokens, dictionary)
    units: dict[str, Any] = {
        "raw": Coefficient,
        "max_activation": lambda value: scale.of_maximum(value, latent),
        "residual_norm": lambda value: scale.of_norm(value, push.vector),
    }
    cells = [Cell("unsteered"), *(Cell(kind, (push.at(units[unit](value)),)) for value in strengths)]
    found = []
    for cell, written in zip(cells, complete(model, cells, prompts, plan), strict=True):
        back = read_back(model, cell.interventions, tokens[: min(len(tokens), 32)])
        found.append(
            {
                "coefficient": None if cell.coefficient is None else str(cell.coefficient),
                "raw": None if cell.coefficient is None else cell.coefficient.raw,
                "activation_before": back[0].before if back else None,
                "activation_after": back[0].after if back else None,
                "others": [list(one) for one in back[0].others] if back else [],
                "completions": dict(zip(prompts, written.texts[:: plan.samples], strict=True)),
                "log_probability": float(written.log_probability.mean()),
            }
        )
    return found


def _print_feature(shown: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(shown)
        return
    for one in shown:
        said = "unsteered" if one["coefficient"] is None else one["coefficient"]
        back = ""
        if one["activation_after"] is not None:
            back = f", mean activation {one['activation_before']:.3g} before, {one['activation_after']:.3g} after"
        out.print(f"{said}{back}, log-probability of the text {one['log_probability']:.2f} a token", style="bold")
        for prompt, text in one["completions"].items():
            out.print(f"  {prompt}|{text}", soft_wrap=True)


def _print_concept(curves: Sequence[Any], absent: Any, cells: int, as_json: bool) -> None:
    if as_json:
        methods = {
            one.method: {
                "area": [one.area.value, one.area.low, one.area.high],
                "difference": [one.difference.value, one.difference.low, one.difference.high],
                "improves": one.improves,
            }
            for one in curves
        }
        print_json({"methods": methods, "absent": dict(absent), "cells": cells})
        return
    table = Table("method", "area", "95 %", "less diff_mean", "improves", box=None, padding=(0, 1, 0, 0))
    for one in sorted(curves, key=lambda curve: -curve.area.value):
        interval = f"[{one.area.low:.3f}, {one.area.high:.3f}]"
        cell = (f"{one.area.value:.3f}", interval, f"{one.difference.value:+.3f}", "yes" if one.improves else "")
        table.add_row(one.method, *cell)
    out.print(table)
    for name, reason in absent.items():
        out.print(f"no {name}: {reason}")
