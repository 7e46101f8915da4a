"""Is the encoder the weak part, or the decoder? Ways of coding swept over k, on dictionaries trained at several L0s.

The study of Smith 2024 and of appendix A of Rajamanoharan et al. 2024 (arXiv 2404.16014). Each dictionary of one site
is coded by its encoder, its encoder cut to the k strongest latents, those k with re-optimised weights, the encoder with
one factor a latent against shrinkage, or a factor and a shift, and by pursuit in k steps, which discards the encoder;
each is spliced into the model. So one decoder gives a curve of cross-entropy recovered against L0, and decoders can be
compared at one L0, whatever L0 they were trained at.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gossamer.activations.stream import ActivationStream
from gossamer.activations.token_mask import counted_tokens
from gossamer.dictionary import encoding_methods
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.encoding_method import EncodingMethod
from gossamer.dictionary.slopes import DecoderRows
from gossamer.display import listed, plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.fingerprint import weights_sha256
from gossamer.model.language_model import LanguageModel
from gossamer.progress import begin, silenced
from gossamer.replacement.evaluate.evaluation import Evaluation
from gossamer.replacement.evaluate.measure import evaluate_methods
from gossamer.results import Older, Recorder, record_format
from gossamer.tokens import Tokens

ENCODERS = ("encoder", "rescaled", "shifted")
FITTED = ("rescaled", "shifted")
SWEPT = ("top_k", "refit", "gradient", "matching", "orthogonal")
METHODS = (*ENCODERS, *SWEPT)
DEFAULT = ("encoder", "rescaled", "top_k", "refit", "gradient")
RESULTS = "results.json"
_KEPT = ("l0", "loss_recovered", "kl_spliced", "ce_spliced", "explained_variance", "cosine", "norm_ratio", "dead")


@dataclass(frozen=True)
class CodingPoint:
    """One method of one dictionary, spliced into the model; the numbers are those of :class:`Evaluation`.

    Attributes:
        dictionary: its name.
        method: one of `METHODS`.
        k: most latents a token; None for the encoders, which choose themselves.
    """

    dictionary: str
    method: str
    k: int | None
    l0: float
    loss_recovered: float
    kl_spliced: float
    ce_spliced: float
    explained_variance: float
    cosine: float
    norm_ratio: float
    dead: float

    __repr__ = short_repr


@dataclass(frozen=True)
class CodingStudy:
    """What a study found.

    Attributes:
        settings: model, site, text and everything else that the numbers depend on.
        points: in the order of dictionaries, methods and k.
    """

    settings: Mapping[str, Any]
    points: tuple[CodingPoint, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.points), "point")
        yield f"settings {listed(self.settings)}"

    @property
    def dictionaries(self) -> tuple[str, ...]:
        """Names, by rising L0 of the encoder where it was measured."""
        names = dict.fromkeys(point.dictionary for point in self.points)
        own = self.trained_l0
        return tuple(sorted(names, key=lambda name: own.get(name, float("inf"))))

    @property
    def trained_l0(self) -> dict[str, float]:
        """Mean L0 of each dictionary's own encoder on the text: the L0 that it was trained for."""
        return {point.dictionary: point.l0 for point in self.points if point.method == "encoder"}

    def curve(self, dictionary: str, method: str) -> tuple[CodingPoint, ...]:
        """The points of one dictionary and method, by rising L0."""
        chosen = [point for point in self.points if (point.dictionary, point.method) == (dictionary, method)]
        return tuple(sorted(chosen, key=lambda point: point.l0))

    def at(self, dictionary: str, method: str, l0: float) -> float | None:
        """Cross-entropy recovered at `l0`, linear between the points beside it; None outside of the curve."""
        points = self.curve(dictionary, method)
        for below, above in pairwise(points):
            if below.l0 <= l0 <= above.l0 and below.l0 < above.l0:
                share = (l0 - below.l0) / (above.l0 - below.l0)
                return (1 - share) * below.loss_recovered + share * above.loss_recovered
        return next((point.loss_recovered for point in points if point.l0 == l0), None)


@dataclass(frozen=True)
class Verdict:
    """Which decoder is best at one test L0, all coded in the same way.

    Attributes:
        l0: the test L0, at which dictionary `own` was trained.
        recovered: cross-entropy recovered with each decoder there, None where its curve does not reach.
        best: the dictionary with the most.
    """

    l0: float
    own: str
    recovered: Mapping[str, float | None]
    best: str


def verdicts(study: CodingStudy, method: str = "gradient") -> list[Verdict]:
    """The best decoder at each L0 that a dictionary was trained at; left out where its own curve does not reach it."""
    found = []
    for own, l0 in sorted(study.trained_l0.items(), key=lambda item: item[1]):
        recovered = {name: study.at(name, method, l0) for name in study.dictionaries}
        known = {name: value for name, value in recovered.items() if value is not None}
        if own in known:
            found.append(Verdict(l0, own, recovered, max(known, key=lambda name: known[name])))
    return found


def study_coding(
    model: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    tokens: Tokens,
    ks: Sequence[int],
    *,
    sample: Tokens | None = None,
    methods: Sequence[str] = DEFAULT,
    folder: str | Path | None = None,
    batch_size: int = 16,
) -> CodingStudy:
    """Measure every method of every dictionary at every k.

    With a `folder`, results.json there is written after each method; a study that was stopped goes on behind the last.

    Cost: of each method one pass of the model over the text for each k, and two more. Memory: n^2 values for
    `rescaled`, four times that for `shifted`, and n^2 for pursuit where :meth:`DecoderRows.of` has them.

    Args:
        dictionaries: of one site, by name.
        tokens: text to measure on.
        ks: most latents a token.
        sample: other text, on which `rescaled` and `shifted` are fitted.
        methods: of `METHODS`.

    Raises:
        UsageError: no dictionaries, dictionaries of several sites, a method or k that is none, `rescaled` or
            `shifted` without a sample, or a folder that holds another study.
        NotFiniteError: activations, reconstructions or logits are not finite.
        GossamerError: results.json is damaged.
    """
    _check(dictionaries, ks, methods, sample)
    settings = _settings(model, dictionaries, tokens, sample, ks, methods)
    recorder = Recorder(None if folder is None else Path(folder) / RESULTS, FORMAT, settings)
    done = {(point.dictionary, point.method) for point in recorder.rows}
    advance = begin("coding", sum(_passes(method, ks) for _ in dictionaries for method in methods))
    advance(len(recorder.rows), "")
    for name, dictionary in dictionaries.items():
        for method in [method for method in methods if (name, method) not in done]:
            built = _built(model, dictionary, method, ks, sample, batch_size)
            with silenced():
                found = evaluate_methods(model, built, tokens, batch_size=batch_size)
            recorder.add(*(_point(name, method, k, one) for k, one in found.items()))
            advance(_passes(method, ks), f"{name} {method}")
    return CodingStudy(recorder.settings, tuple(recorder.rows))


def load_study(folder: str | Path) -> CodingStudy:
    """The study in a folder, complete or not.

    Raises:
        UsageError: there is none.
        GossamerError: it is damaged.
    """
    found = FORMAT.load(Path(folder) / RESULTS)
    return CodingStudy(found.settings, found.rows)


def _check(
    dictionaries: Mapping[str, Dictionary], ks: Sequence[int], methods: Sequence[str], sample: Tokens | None
) -> None:
    if not dictionaries:
        raise UsageError("coding study: at least one dictionary expected, found none")
    sites = sorted({str(dictionary.site) for dictionary in dictionaries.values()})
    if len(sites) > 1:
        raise UsageError(f"coding study: dictionaries of one site expected, found {', '.join(sites)}; choose one site")
    if unknown := [method for method in methods if method not in METHODS]:
        raise UsageError(f"coding study: methods {', '.join(METHODS)} expected, found {unknown[0]!r}")
    if not methods or len(set(methods)) < len(methods) or len(set(ks)) < len(ks):
        raise UsageError(f"coding study: each method and k once expected, found {list(methods)} and {list(ks)}")
    width = min(dictionary.n_latents for dictionary in dictionaries.values())
    if not ks or not all(1 <= k <= width for k in ks):
        raise UsageError(f"coding study: k from 1 to the {width} latents expected, found {list(ks)}")
    if (fitted := [method for method in methods if method in FITTED]) and sample is None:
        raise UsageError(f"coding study: {fitted[0]} is fitted on other text than it is measured on; give a sample")


def _settings(
    model: LanguageModel,
    dictionaries: Mapping[str, Dictionary],
    tokens: Tokens,
    sample: Tokens | None,
    ks: Sequence[int],
    methods: Sequence[str],
) -> dict[str, Any]:
    return {
        "model": model.title,
        "weights_sha256": weights_sha256(model.hf),
        "site": str(next(iter(dictionaries.values())).site),
        "dictionaries": {name: _hash(dictionary.W_dec, dictionary.W_enc) for name, dictionary in dictionaries.items()},
        "rows": len(tokens),
        "tokens": int(counted_tokens(model, tokens).sum()),
        "text": _hash(tokens.ids * tokens.mask, tokens.mask),
        "sample": None if sample is None else _hash(sample.ids * sample.mask, sample.mask),
        "ks": list(ks),
        "methods": list(methods),
    }


def _passes(method: str, ks: Sequence[int]) -> int:
    return 1 if method in ENCODERS else len(ks)


def _hash(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _built(
    model: LanguageModel,
    dictionary: Dictionary,
    method: str,
    ks: Sequence[int],
    sample: Tokens | None,
    batch_size: int,
) -> dict[int | None, EncodingMethod]:
    """The methods of one name, by k."""
    if method == "encoder":
        return {None: encoding_methods.encoded(dictionary)}
    if method in FITTED:
        assert sample is not None
        assert dictionary.site is not None
        activations = ActivationStream(model, sample, [dictionary.site], batch_size=batch_size).collect()
        return {None: encoding_methods.rescaled(dictionary, activations[dictionary.site], shift=method == "shifted")}
    return dict(_by_k(dictionary, method, ks))


def _by_k(dictionary: Dictionary, method: str, ks: Sequence[int]) -> Iterator[tuple[int, EncodingMethod]]:
    chosen: dict[str, Callable[[Dictionary, int], EncodingMethod]] = {
        "top_k": encoding_methods.top_k,
        "refit": encoding_methods.refit,
    }
    if method in chosen:
        yield from ((k, chosen[method](dictionary, k)) for k in ks)
        return
    # Every k works on the same rows and the same products of all pairs of them.
    rows = DecoderRows.of(dictionary.W_dec.detach())
    yield from ((k, encoding_methods.pursued(dictionary, k, method, rows)) for k in ks)


def _point(name: str, method: str, k: int | None, found: Evaluation) -> CodingPoint:
    return CodingPoint(name, method, k, **{value: getattr(found, value) for value in _KEPT})


def _of_version_1(body: dict[str, Any]) -> dict[str, Any]:
    return _of_version_2({"settings": body["settings"], "rows": body["points"]})


def _of_version_2(body: dict[str, Any]) -> dict[str, Any]:
    """Methods had other names, and were called coders."""
    named = {"cut": "top_k", "reweighted": "refit"}
    rows = [{**row, "method": named.get(row["coder"], row["coder"])} for row in body["rows"]]
    settings = {**body["settings"], "methods": [named.get(one, one) for one in body["settings"]["coders"]]}
    del settings["coders"]
    return {"settings": settings, "rows": [{key: row[key] for key in row if key != "coder"} for row in rows]}


FORMAT = record_format(
    "gossamer.coding",
    3,
    CodingPoint,
    "a study of coding",
    {"gossamer.coding.1": Older(_of_version_1, checksum=False), "gossamer.coding.2": Older(_of_version_2)},
)
