"""The parts of the IOI study: each measures one thing, from the setup and what the parts before it found.

Whatever is chosen (heads, layers, latents, pairs) is chosen by numbers of the choosing prompts; whatever is reported is
of the others, which have other templates.
"""

import re
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from torch import Tensor

from gossamer.attention.heads import head_shares
from gossamer.attention.ioi import noising
from gossamer.attention.ioi.ablation import LatentAblation, latent_effects
from gossamer.attention.ioi.patching import AttentionHead, head_effects, layer_effects, path_effects
from gossamer.attention.ioi.prompts import AND, ORDERS, encode_prompts
from gossamer.attention.ioi.results import (
    ERROR,
    EVERY,
    Estimate,
    HeadAgreement,
    HeadEffect,
    LatentEffect,
    LatentSources,
    LayerEffect,
    LayerTrust,
    Noised,
    PathEffect,
    ScorePair,
    ScoreStudy,
    StudyPart,
)
from gossamer.attention.ioi.scores import TARGETS, ScoreTables, explained, score_tables, shares_of
from gossamer.attention.ioi.setup import CHOOSE, REPORT, Setup, interval
from gossamer.attention.ioi.sources import SOURCES, role_contributions
from gossamer.attention.trust import trust_report
from gossamer.model.site import Site
from gossamer.tasks.task import Task
from gossamer.tokens import Tokens

KS = (1, 2, 4, 8, 16, 32, 64)
# How many are looked at: heads at END and at S2 that paths begin at, latents of a layer, layers of changed prompts,
# and the least share of the change of a second such layer.
_SENDERS, _S2_HEADS, _LATENTS, _NOISED, _CARRIES = 16, 6, 8, 2, 0.05


def patching(setup: Setup, most_layers: int) -> StudyPart:
    """Layers and heads at S2 and at END, exactly; single heads in the layers that matter most."""
    chosen, reported = setup.side(CHOOSE), setup.side(REPORT)
    clean, other, whole = setup.clean, setup.swapped, setup.whole
    layers: list[LayerEffect] = []
    heads: list[HeadEffect] = []
    for role in ("S2", "END"):
        found = layer_effects(clean, other, role)
        means = found[:, chosen].mean(dim=1) / whole[chosen].mean()
        layers += [
            LayerEffect(layer, role, float(means[layer]), setup.estimate(one[reported], whole[reported], reported))
            for layer, one in enumerate(found)
        ]
        opened = sorted(means.abs().topk(min(most_layers, len(means))).indices.tolist())
        heads += _head_rows(setup, role, opened)
    return StudyPart("patching", layers=tuple(layers), heads=tuple(heads))


def _head_rows(setup: Setup, role: str, layers: Sequence[int]) -> list[HeadEffect]:
    chosen, reported, whole = setup.side(CHOOSE), setup.side(REPORT), setup.whole
    total = head_effects(setup.clean, setup.swapped, role, layers)
    direct = head_effects(setup.clean, setup.swapped, role, layers, direct=True) if role == "END" else None
    looked = None if direct is None else _attention(setup, layers)
    found = []
    for place, layer in enumerate(layers):
        for head in range(setup.model.n_heads):
            one = total[place, head]
            row = (
                float(one[chosen].mean() / whole[chosen].mean()),
                setup.estimate(one[reported], whole[reported], reported),
            )
            more: tuple[float, ...] = ()
            if direct is not None and looked is not None:
                own = [float(direct[place, head, rows].mean() / whole[rows].mean()) for rows in (chosen, reported)]
                more = (*own, *looked[place, head].tolist())
            found.append(HeadEffect(AttentionHead(layer, head), role, *row, *more))
    return found


def _attention(setup: Setup, layers: Sequence[int]) -> Float[Tensor, "layer head two"]:
    """Mean attention from END to the indirect object and to the subject's first mention, on the choosing prompts."""
    prompts = setup.prompts[setup.side(CHOOSE)]
    sites = [Site("pattern", layer) for layer in layers]
    with torch.no_grad():
        found = setup.model.capture(prompts.tokens, sites)
    rows, end = torch.arange(len(prompts)), prompts.places["END"]
    to = [
        torch.stack([found[site][rows, :, end, prompts.places[role]].mean(dim=0) for site in sites])
        for role in ("IO", "S1")
    ]
    return torch.stack(to, dim=2)


def _through_others(found: StudyPart, n: int) -> list[AttentionHead]:
    """Heads at END that act through later heads: the fall less that by their own path, the largest first."""
    moving = found.name_movers
    rest = [one for one in found.heads if one.role == "END" and one.head not in moving]
    return [one.head for one in sorted(rest, key=lambda one: -(one.chosen - one.direct_chosen))[:n]]


def _at_s2(found: StudyPart, n: int) -> list[AttentionHead]:
    return [one.head for one in sorted((x for x in found.heads if x.role == "S2"), key=lambda one: -one.chosen)[:n]]


def paths(setup: Setup, found: StudyPart) -> StudyPart:
    """Paths from heads at END to the movers' queries, and from heads at S2 to what the former read there."""
    rows = setup.side(REPORT)
    clean, other, whole = setup.clean[rows], setup.swapped[rows], setup.whole[rows]
    pairs: list[tuple[list[AttentionHead], str, list[AttentionHead], Literal["q", "v"]]] = [
        (_through_others(found, _SENDERS), "END", found.name_movers, "q"),
        (_at_s2(found, _S2_HEADS), "S2", _through_others(found, _S2_HEADS), "v"),
    ]
    effects = []
    for senders, role, receivers, through in pairs:
        moved = path_effects(clean, other, senders, role, receivers, through)
        effects += [
            PathEffect(sender, receiver, through, setup.estimate(moved[place, number], whole, rows))
            for place, sender in enumerate(senders)
            for number, receiver in enumerate(receivers)
            if receiver.layer > sender.layer
        ]
    return StudyPart("paths", paths=tuple(effects))


def noise(setup: Setup, found: StudyPart, connectives: Sequence[str], texts: Sequence[str]) -> StudyPart:
    """Attention outputs at S2 from changed prompts, at the layers that matter there (two at most) and at all layers."""
    rows = setup.side(REPORT)
    clean = setup.clean[rows]
    drawn = [setup.drawn[row] for row in rows.tolist()]
    changed = {change: encode_prompts(one, setup.speller) for change, one in noising.changes(drawn, connectives)}
    templates = {name: clean.prompts.rows(template=name) for name in dict.fromkeys(clean.prompts.templates)}
    groups = {**templates, **{order: clean.prompts.rows(order=order) for order in ORDERS}}
    chances = noising.connective_chances(clean, (AND, *connectives), setup.speller)
    counts = _per_million((AND, *connectives), texts)
    ranked = sorted((one for one in found.layers if one.role == "S2"), key=lambda one: -one.chosen)
    carrying = [one for one in ranked[:_NOISED] if one is ranked[0] or one.chosen >= _CARRIES]
    noised = []
    for layers in (sorted(one.layer for one in carrying), list(range(setup.model.n_layers))):
        differences = {"none": clean.difference}
        for change, prompts in [*changed.items(), ("zero", None)]:
            differences[change] = noising.kept_differences(clean, prompts, layers)
        for change, kept in differences.items():
            word = AND if change == "none" else change.removeprefix("connective")
            noised.append(
                Noised(
                    change,
                    tuple(layers),
                    setup.estimate(kept, clean.difference, rows),
                    {name: float(kept[own].mean() / clean.difference[own].mean()) for name, own in groups.items()},
                    chances.get(word, float("nan")),
                    counts.get(word, float("nan")),
                )
            )
    return StudyPart("noising", noised=tuple(noised))


def _per_million(words: Sequence[str], texts: Sequence[str]) -> dict[str, float]:
    """How often words occur in a million words of text; empty without a text."""
    found = [word.lower() for text in texts for word in re.findall(r"[A-Za-z']+", text)]
    return {word: 1e6 * found.count(word.strip()) / len(found) for word in words} if found else {}


def trust(setup: Setup, tokens: Tokens | None) -> StudyPart:
    """Each dictionary alone in the model, on reporting prompts and on text."""
    drawn = [setup.drawn[row].task_prompt for row in setup.side(REPORT).tolist()]
    task = Task.from_prompts(
        drawn, setup.model.tokenizer, name="ioi", bos=setup.speller.bos, test_fraction=0.9, seed=setup.seed
    )
    report = trust_report(setup.model, setup.dictionaries, task, tokens)
    rows = [
        LayerTrust(
            str(site),
            *(one.kept, one.kept_without, one.kl, one.kl_without),
            *(() if one.text is None else (one.text.l0, one.text.loss_recovered, one.text.dead)),
        )
        for site, one in report.items()
    ]
    return StudyPart("trust", trust=tuple(rows))


def latents(setup: Setup, found: StudyPart) -> StudyPart:
    """Latents at S2, each ablated alone; and whether they and the patched heads name the same heads."""
    rows, agreement, pooled = [], [], []
    for site in setup.dictionaries:
        ablated = latent_effects(setup.clean, setup.frozen, site, "S2")
        rows += _latent_rows(setup, ablated)
        patched = {
            one.head: one.reported.value for one in found.heads if one.role == "S2" and one.head.layer == site.layer
        }
        if not patched:
            continue
        shares = head_shares(setup.model, setup.dictionaries[site]).output[ablated.latents]
        credit = ablated.effects[:, setup.side(REPORT)].mean(dim=1).to(shares) @ shares
        compared = [(float(credit[head.head]), value) for head, value in patched.items()]
        agreement.append(_agreement(f"heads of layer {site.layer} at S2: latents of {site}, patching", compared))
        pooled += compared
    if pooled:
        agreement.append(_agreement("all these heads at S2: latents, patching", pooled))
    return StudyPart("latents", latents=tuple(rows), agreement=tuple(agreement))


def _latent_rows(setup: Setup, ablated: LatentAblation) -> list[LatentEffect]:
    chosen, reported = setup.side(CHOOSE), setup.side(REPORT)
    base, prompts = setup.clean.difference, setup.prompts
    orders = {
        order: torch.tensor([row for row in reported.tolist() if setup.drawn[row].order == order]) for order in ORDERS
    }
    means = ablated.effects[:, chosen].mean(dim=1)
    strongest = means.abs().topk(min(_LATENTS, len(means))).indices.tolist()
    everywhere = torch.ones(len(prompts), dtype=torch.bool)
    rows = [(int(ablated.latents[one]), ablated.effects[one], ablated.active[one]) for one in strongest]
    rows += [(ERROR, ablated.error, everywhere), (EVERY, ablated.every, everywhere)]
    return [
        LatentEffect(
            str(ablated.site),
            latent,
            float(effect[chosen].mean() / base[chosen].mean()),
            setup.estimate(effect[reported], base[reported], reported),
            {order: float(effect[own].mean() / base[own].mean()) for order, own in orders.items()},
            {order: float(active[own].float().mean()) for order, own in orders.items()},
        )
        for latent, effect, active in rows
    ]


def sources(setup: Setup, found: StudyPart) -> StudyPart:
    """Where the strongest latents at S2, of all layers, came from, on the reporting prompts."""
    strongest = sorted((one for one in found.latents if one.latent >= 0), key=lambda one: -abs(one.chosen))[:_LATENTS]
    rows = []
    for one in strongest:
        shares, bias = role_contributions(setup.frozen, setup.prompts, Site.parse(one.site), [one.latent])
        for order in ORDERS:
            own = [row for row in setup.side(REPORT).tolist() if setup.drawn[row].order == order]
            active = ~shares[0, own, 0].isnan()
            summed, constant = shares[0, own][active].sum(dim=0), float(bias[0, own][active].sum())
            total = float(summed.sum())
            by_role = {name: float(value) / total for name, value in zip(SOURCES, summed, strict=True)} if total else {}
            rows.append(
                LatentSources(
                    one.site, one.latent, order, int(active.sum()), by_role, constant / total if total else 0.0
                )
            )
    return StudyPart("sources", sources=tuple(rows))


def scores(setup: Setup, found: StudyPart) -> StudyPart:
    """Pairs in the movers' scores, chosen on one side and measured on the other; and whether senders agree."""
    choosing, reporting = setup.passes(CHOOSE), setup.passes(REPORT)
    rows, agreement = [], []
    for head in found.name_movers:
        first, second = score_tables(choosing, head), score_tables(reporting, head)
        for target in TARGETS:
            rows.append(_score_row(setup, first[target], second[target]))
        if compared := _senders(setup, second["IO - S1"], found):
            agreement.append(
                _agreement(f"heads into the query of {head}: latents in its pairs, path patching", compared)
            )
    return StudyPart("scores", scores=tuple(rows), agreement=tuple(agreement))


def _score_row(setup: Setup, first: ScoreTables, second: ScoreTables) -> ScoreStudy:
    scores = second.scores
    chosen, anything = first.chosen(max(KS), latents=True), first.chosen(max(KS), latents=False)
    values, others = (second.values(pairs) for pairs in (chosen, anything))
    before, after = (shares_of(tables.scores, tables.values(chosen[:8])) for tables in (first, second))
    pairs = tuple(
        ScorePair(str(pair.query), str(pair.key), before[number], after[number], float(values[number].mean()))
        for number, pair in enumerate(chosen[:8])
    )
    by_k, any_by_k = ({str(k): explained(scores, one[:k]) for k in KS} for one in (values, others))
    kinds = {f"{query} x {key}": share for (query, key), share in second.by_kind().items()}
    deviation = float(scores.std(unbiased=False))
    return ScoreStudy(
        *(first.head, first.target, float(scores.mean()), deviation, by_k, any_by_k, kinds, pairs),
        _explained_interval(setup, second, values[:8]),
    )


def _explained_interval(setup: Setup, tables: ScoreTables, values: Float[Tensor, "pair prompt"]) -> Estimate:
    """What 8 pairs explain, with an interval over prompts."""
    scores = tables.scores
    left = scores - values.sum(dim=0).to(scores)
    weights = setup.samples(setup.rows_in_passes(REPORT))
    weights = weights / weights.sum(dim=1, keepdim=True)
    kept, whole = (weights @ x.square() - (weights @ x).square() for x in (left, scores))
    return interval(explained(scores, values), 1 - kept / whole)


def _senders(setup: Setup, tables: ScoreTables, found: StudyPart) -> list[tuple[float, float]]:
    """Of every head with a path to the mover's query: its latents' part of the score's mean, and the path's effect."""
    by_query = torch.stack(
        [
            table.sum(dim=1).new_zeros(len(tables.queries)).index_add(0, rows, table.sum(dim=1))
            for rows, _, table in tables.tables
        ]
    ).mean(dim=0)
    credit: dict[AttentionHead, float] = {}
    shares = {site: head_shares(setup.model, one).output for site, one in setup.dictionaries.items()}
    for source, value in zip(tables.queries, by_query.tolist(), strict=True):
        if source.kind == "latent" and source.site is not None and source.latent is not None:
            for head, share in enumerate(shares[source.site][source.latent].tolist()):
                own = AttentionHead(source.site.layer or 0, head)
                credit[own] = credit.get(own, 0.0) + share * value
    effects = {
        one.sender: one.effect.value for one in found.paths if one.through == "q" and one.receiver == tables.head
    }
    return [(credit[head], effect) for head, effect in effects.items() if head in credit]


def _agreement(what: str, compared: Sequence[tuple[float, float]]) -> HeadAgreement:
    first, second = (torch.tensor(column) for column in zip(*compared, strict=True))
    varied = len(compared) > 2 and float(first.std()) > 0 and float(second.std()) > 0
    value = float(spearmanr(first.numpy(), second.numpy()).statistic) if varied else float("nan")
    top = min(3, len(compared))
    overlap = set(first.topk(top).indices.tolist()) & set(second.topk(top).indices.tolist()) if varied else set()
    return HeadAgreement(what, len(compared), value, len(overlap))
