"""What jobs do: steer a model beside itself, and explain a latent by rules."""

from collections.abc import Iterator, Sequence

from gossamer.app.jobs import Job, Work
from gossamer.app.schema.jobs import (
    ChosenToken,
    ExplainedEvent,
    ExplainJob,
    JobScore,
    PriceEvent,
    Progress,
    PushShape,
    SteerJob,
    SteerSpec,
    TokenEvent,
)
from gossamer.app.workbench import Workbench
from gossamer.circuits.evaluate.rerun import Dictionaries
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.explain.answers import ExplanationScore
from gossamer.explain.study import ExplanationStudy
from gossamer.features import Feature
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.report import text
from gossamer.steering import intervention
from gossamer.steering.benefit import WordList
from gossamer.steering.coefficient import Coefficient, SiteScale, measure_site
from gossamer.steering.completions import SamplingPlan
from gossamer.steering.concept import behind_first
from gossamer.steering.intervention import NEW_TOKENS, Intervention, project_out
from gossamer.steering.side_by_side import NEUTRAL, Chosen, SideBySide, side_by_side, steering_price
from gossamer.store import FeatureStore
from gossamer.tokens import Tokens

MOST_TOKENS = 4096
_KINDS = {"add": "feature_add", "clamp": "clamp", "scale": "scale"}
# Of the text of the price, tokens of a row.
_CONTEXT = 64


def steer_work(bench: Workbench, asked: SteerJob) -> Work:
    """Both texts token by token, then what steering costs.

    Raises:
        UsageError: a latent's name that is none, or a unit that its mode has not.
        UnknownError, GossamerError: as :meth:`Workbench.inputs`.
    """
    features = [Feature.parse(one.feature) for one in asked.specs]
    for one in asked.specs:
        if one.mode == "scale" and one.unit != "raw":
            raise UsageError(f"{one.feature}: scale takes a plain factor: unit raw expected, found {one.unit}")
    words = WordList(tuple(asked.words)) if asked.words else None
    bench.inputs(asked.dictionaries)

    def work(job: Job) -> None:
        with bench.model(asked.dictionaries) as live:
            model = live.model
            if (length := int(model.tokenize([asked.prompt]).lengths[0])) > MOST_TOKENS:
                raise UsageError(f"prompt: at most {MOST_TOKENS} tokens expected, found {length}")
            rows = [line for line in asked.neutral.splitlines() if line.strip()] or list(NEUTRAL)
            neutral = model.tokenize(rows).cut(min(_CONTEXT, model.n_context))
            pushes = list(_interventions(model, live.dictionaries, asked, features, neutral))
            plan = SamplingPlan(1, asked.n_tokens, asked.temperature, seed=asked.seed)
            written: list[SideBySide] = []
            for place in side_by_side(model, pushes, asked.prompt, plan):
                written.append(place)
                job.say(TokenEvent(event="token", default=_token(place.default), steered=_token(place.steered)))
            job.say(Progress(event="progress", said="measuring what it costs"))
            job.say(_price(model, pushes, neutral, asked, words, written))

    return work


def _interventions(
    model: LanguageModel,
    dictionaries: Dictionaries,
    asked: SteerJob,
    features: Sequence[Feature],
    neutral: Tokens,
) -> Iterator[Intervention]:
    where = NEW_TOKENS if asked.positions == "new" else behind_first(model)
    scales: dict[Site, SiteScale] = {}
    for spec, feature in zip(asked.specs, features, strict=True):
        dictionary = dictionaries.get(feature.site)
        if dictionary is None:
            known = ", ".join(map(str, dictionaries))
            raise UsageError(f"{feature}: a site of the dictionaries expected ({known or 'there are none'})")
        if not 0 <= feature.latent < dictionary.n_latents:
            raise UsageError(f"{feature}: a latent from 0 to {dictionary.n_latents - 1} expected")
        if spec.mode == "project":
            yield project_out(feature.site, dictionary.W_dec[feature.latent].detach()).where(where)
            continue
        if spec.unit != "raw" and feature.site not in scales:
            scales[feature.site] = measure_site(model, feature.site, neutral, dictionary)
        amount = _coefficient(spec, feature, dictionary, scales.get(feature.site))
        yield getattr(intervention, _KINDS[spec.mode])(dictionary, feature.latent, amount).where(where)


def _coefficient(spec: SteerSpec, feature: Feature, dictionary: Dictionary, scale: SiteScale | None) -> Coefficient:
    if scale is None or spec.unit == "raw":
        return Coefficient(spec.strength)
    if spec.unit == "max_activation":
        return scale.of_maximum(spec.strength, feature.latent)
    return scale.of_norm(spec.strength, dictionary.W_dec[feature.latent].detach())


def _token(one: Chosen | None) -> ChosenToken | None:
    return None if one is None else ChosenToken(word=text.running(one.word), probability=one.probability)


def _price(
    model: LanguageModel,
    pushes: Sequence[Intervention],
    neutral: Tokens,
    asked: SteerJob,
    words: WordList | None,
    written: Sequence[SideBySide],
) -> PriceEvent:
    price = steering_price(model, pushes, neutral)
    texts = ["".join(one.word for place in written if (one := place[side]) is not None) for side in (0, 1)]
    hits = [None if words is None else words.count(one) for one in texts]
    return PriceEvent(
        event="price",
        text="the reader's own text" if asked.neutral.strip() else f"{len(NEUTRAL)} plain sentences",
        tokens=price.tokens,
        cross_entropy=price.cross_entropy,
        kl=price.kl,
        changed=price.changed,
        pushes=[
            PushShape(
                kind=one.kind,
                feature=spec.feature,
                raw=one.raw,
                relative_norm=one.relative_norm,
                before=one.before,
                after=one.after,
            )
            for one, spec in zip(price.pushes, asked.specs, strict=True)
        ],
        words=asked.words,
        default_hits=hits[0],
        steered_hits=hits[1],
    )


def explain_work(bench: Workbench, asked: ExplainJob) -> Work:
    """A rule for one latent, scored; kept in the run's folder, where the view of explanations finds it.

    Raises:
        UsageError: a latent's name that is none.
        UnknownError: no such store.
    """
    feature = Feature.parse(asked.feature)
    part, _ = bench.run.content(asked.store, "feature store")
    folder = bench.views / "explain" / f"{asked.store}-{str(feature).replace('/', '-')}"

    def work(job: Job) -> None:
        job.say(Progress(event="progress", said="reading the store"))
        with FeatureStore(part.path.parent) as store:
            study = ExplanationStudy(store, [feature])
            job.say(Progress(event="progress", said="finding a rule and scoring it"))
            found = study.run(folder if bench.read_only is None else None)
        (row,) = found.explanations
        scores = [
            _score(one, scored.control)
            for scored in found.scores_of(row.explanation.feature, row.explanation.method)
            for one in scored.scores
        ]
        job.say(
            ExplainedEvent(
                event="explained",
                feature=str(feature),
                text=text.running(row.explanation.text),
                failure=row.explanation.failure,
                scores=scores,
                kept=None if bench.read_only else folder.relative_to(bench.run.path).as_posix(),
            )
        )

    return work


def _score(one: ExplanationScore, control: str) -> JobScore:
    counts = {name: getattr(one.items, name) for name in ("right", "wrong", "unparsed", "error")}
    values = {name: getattr(one, name) for name in ("scorer", "value", "low", "high", "reason")}
    return JobScore(control=control, **values, **counts)
