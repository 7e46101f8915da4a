"""An IOI study in words and tables, and as a folder."""

import math
from collections.abc import Iterator
from pathlib import Path

from gossamer import files
from gossamer.attention.ioi.results import ERROR, EVERY, IOIStudy, LatentEffect, Noised, StudyPart
from gossamer.report.coding import table

# A dictionary that keeps less of the task than this is not to be believed.
TRUSTED = 0.8
_MOST = 12
Section = tuple[str, list[list[str]]]


def sentences(study: IOIStudy) -> Iterator[str]:
    """What was found, one statement a part, whether or not it is what was published."""
    found = study.found
    if found.heads:
        for role in ("S2", "END"):
            top = sorted((one for one in found.heads if one.role == role), key=lambda one: -one.chosen)[:3]
            named = ", ".join(f"{one.head} {one.reported}" for one in top)
            yield f"Heads at {role} (share of the change between a prompt and its swap): {named}."
        yield f"Name-moving heads, by exact patching: {', '.join(map(str, found.name_movers)) or 'none'}."
    if found.noised:
        yield _noised(found)
    if found.trust:
        kept = [one.kept for one in found.trust]
        bad = [one.site for one in found.trust if one.kept < TRUSTED]
        yield (
            f"P1: alone in the model, dictionaries keep {min(kept):.2f} to {max(kept):.2f} of the logit difference"
            f"{'; not to be believed: ' + ', '.join(bad) if bad else ''}."
        )
    if strongest := _strongest(found):
        named = ", ".join(f"{one.site}/{one.latent} {one.reported}" for one in strongest[:3])
        yield f"P2: the latents at S2 that move the logit difference most: {named}."
    if found.scores:
        best = max((one for one in found.scores if one.target == "IO - S1"), key=lambda one: one.explained["8"])
        yield (
            f"P5: 8 pairs of latents explain {best.interval} of the variance of the score of {best.head} "
            f"({best.target}), the most of {len(found.scores) // 2} name-moving heads (published for GPT-2 small: .62)."
        )
    if found.survey:
        ten, fifty = (sum(one.monosemantic[place] for one in found.survey) for place in (0, 1))
        yield f"Heads that look monosemantic by the rules: {ten} of {len(found.survey)} by their top 10, {fifty} by 50."


def _noised(found: StudyPart) -> str:
    layers = min((one.layers for one in found.noised), key=len)
    kept = {one.change: one for one in found.noised if one.layers == layers}
    words = [one for name, one in kept.items() if name.startswith("connective")]
    low, high = (pick(words, key=lambda one: one.kept.value) for pick in (min, max))
    return (
        f"P4: with attn_out of layer {', '.join(map(str, layers))} at S2 from changed prompts, other connectives keep "
        f"{low.kept} ({_change(low)}) to {high.kept} ({_change(high)}) of the logit difference; names, prefix and "
        f"filler {kept['names, prefix and filler'].kept}; the other order of names {kept['order'].kept}; "
        f"zeros {kept['zero'].kept}."
    )


def _change(one: Noised) -> str:
    return repr(one.change.removeprefix("connective")) if one.change.startswith("connective") else one.change


def _strongest(found: StudyPart) -> list[LatentEffect]:
    return sorted((one for one in found.latents if one.latent >= 0), key=lambda one: -abs(one.chosen))


def sections(study: IOIStudy) -> Iterator[Section]:
    """A title and a table, the first row its head, for each thing that was measured."""
    found = study.found
    makers = (
        _ability,
        _layers,
        _heads,
        _paths,
        _noising,
        _trust,
        _latents,
        _sources,
        _scores,
        _pairs,
        _agreement,
        _survey,
    )
    for maker in makers:
        title, rows = maker(found)
        if len(rows) > 1:
            yield title, rows


def _ability(found: StudyPart) -> Section:
    rows = [["template", "side", "accuracy", "logit difference"]]
    rows += [[one.template, one.side or "-", _n(one.accuracy), _n(one.difference)] for one in found.ability]
    return "What the model can do, and which templates choices are made on", rows


def _layers(found: StudyPart) -> Section:
    rows = [["layer", *(f"{role}, {side}" for role in ("S2", "END") for side in ("choosing", "reported"))]]
    layers = sorted({one.layer for one in found.layers})
    for layer in layers:
        own = {one.role: one for one in found.layers if one.layer == layer}
        rows.append([str(layer), *(text for one in own.values() for text in (_n(one.chosen), str(one.reported)))])
    return "All heads of a layer patched from the swapped prompt: share of the change", rows


def _heads(found: StudyPart) -> Section:
    rows = [["head", "at", "choosing", "reported", "own path to the logits", "attends to IO", "to S1"]]
    for role in ("S2", "END"):
        ranked = sorted((one for one in found.heads if one.role == role), key=lambda one: -abs(one.chosen))
        rows += [
            [str(one.head), role, _n(one.chosen), str(one.reported), _n(one.direct), _n(one.to_io), _n(one.to_s1)]
            for one in ranked[: _MOST // 2]
        ]
    return "Single heads patched from the swapped prompt", rows


def _paths(found: StudyPart) -> Section:
    rows = [["from", "to", "through", "share of the change"]]
    ranked = sorted(found.paths, key=lambda one: -abs(one.effect.value))[:_MOST]
    through = {"q": "query at END", "v": "value at S2"}
    rows += [[str(one.sender), str(one.receiver), through[one.through], str(one.effect)] for one in ranked]
    return "Paths between heads, patched exactly", rows


def _noising(found: StudyPart) -> Section:
    groups = list(found.noised[0].by_group) if found.noised else []
    rows = [["changed", "attn_out of layers", "kept", *groups, "model's probability", "per million words"]]
    rows += [
        [
            one.change,
            ", ".join(map(str, one.layers)) if len(one.layers) < 3 else f"all {len(one.layers)}",
            str(one.kept),
            *map(_n, one.by_group.values()),
            "" if math.isnan(one.chance) else f"{one.chance:.2g}",
            "" if math.isnan(one.per_million) else f"{one.per_million:.0f}",
        ]
        for one in found.noised
    ]
    return "P4: attention outputs at S2 from a changed prompt; share of the logit difference that is kept", rows


def _trust(found: StudyPart) -> Section:
    rows = [["dictionary", "kept", "zero keeps", "KL", "KL of zero", "L0", "loss recovered", "dead"]]
    rows += [
        [one.site, *map(_n, (one.kept, one.kept_without, one.kl, one.kl_without, one.l0, one.loss_recovered, one.dead))]
        for one in found.trust
    ]
    return "P1: each dictionary alone in the model", rows


def _latents(found: StudyPart) -> Section:
    rows = [["latent", "choosing", "reported", "ABBA", "BABA", "active in ABBA", "in BABA"]]
    ranked = sorted((one for one in found.latents if one.latent >= EVERY), key=lambda one: -abs(one.chosen))
    names = {ERROR: "error", EVERY: "all latents"}
    rows += [
        [
            f"{one.site} {names[one.latent]}" if one.latent in names else f"{one.site}/{one.latent}",
            *(_n(one.chosen), str(one.reported)),
            *map(_n, (*one.by_order.values(), *one.active.values())),
        ]
        for one in ranked[: 2 * _MOST]
    ]
    return "P2: ablated at each prompt's own S2, errors kept; share of the logit difference that is lost", rows


def _sources(found: StudyPart) -> Section:
    known = [one for one in found.sources if one.shares]
    rows = [["latent", "order", "active in", *(known[0].shares if known else ()), "biases"]]
    rows += [
        [f"{one.site}/{one.latent}", one.order, str(one.prompts), *map(_n, one.shares.values()), _n(one.bias)]
        for one in known
    ]
    return "P3: where these latents came from; shares of what all tokens contribute", rows


def _scores(found: StudyPart) -> Section:
    ks = list(found.scores[0].explained) if found.scores else []
    rows = [["head", "score", "pairs of", *(f"{k}" for k in ks), "kinds with the largest shares"]]
    for one in found.scores:
        kinds = sorted(one.by_kind.items(), key=lambda item: -abs(item[1]))[:4]
        named = ", ".join(f"{name} {value:.2f}" for name, value in kinds)
        rows.append([str(one.head), one.target, "latents", *map(_n, one.explained.values()), named])
        rows.append([str(one.head), one.target, "any parts", *map(_n, one.explained_by_any.values()), ""])
    return "P5: share of a name-moving head's score's variance over prompts that the first k pairs explain", rows


def _pairs(found: StudyPart) -> Section:
    rows = [["head", "score", "query part", "key part", "share, choosing", "reported", "mean"]]
    rows += [
        [str(one.head), one.target, pair.query, pair.key, *map(_n, (pair.chosen, pair.reported, pair.mean))]
        for one in found.scores
        for pair in one.pairs[:3]
    ]
    return "P5: the first pairs of latents", rows


def _agreement(found: StudyPart) -> Section:
    rows = [["what is compared", "heads", "rank correlation", "same of the top 3"]]
    rows += [[one.what, str(one.heads), _n(one.rank_correlation), str(one.overlap)] for one in found.agreement]
    return "Where latents and heads agree", rows


def _survey(found: StudyPart) -> Section:
    rows = [["head", "most of its top 10", "purity of 10", "of 50", "its share in 10", "in 50", "looks monosemantic"]]
    ranked = sorted(found.survey, key=lambda one: (-sum(one.monosemantic), -one.purity[0], -one.purity[1]))
    rows += [
        [
            *(str(one.head), one.kind or "mixed"),
            *map(_n, (*one.purity, *one.share)),
            " and ".join(name for name, yes in zip(("10", "50"), one.monosemantic, strict=True) if yes) or "-",
        ]
        for one in ranked[:_MOST]
    ]
    return "The head survey: the purest heads", rows


def _n(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}" if abs(value) >= 0.005 or value == 0 else f"{value:.1g}"


def markdown(study: IOIStudy) -> str:
    """All sentences and tables."""
    said = "\n".join(f"- {sentence}" for sentence in sentences(study))
    return "\n\n".join([said, *(f"## {title}\n\n{table(rows)}" for title, rows in sections(study))]) + "\n"


def write_ioi(study: IOIStudy, folder: str | Path) -> list[Path]:
    """Write tables.md and the pictures beside the record; each atomically. Returns the pictures' paths.

    Raises:
        GossamerError: a folder that cannot be written.
    """
    from gossamer.report import style
    from gossamer.report.figures.ioi import pictures

    target = Path(folder)
    files.write_text(target / "tables.md", markdown(study))
    drawn = {target / f"{name}.png": figure for name, figure in pictures(study).items()}
    for path, figure in drawn.items():
        style.save_png(figure, path)
    return list(drawn)
