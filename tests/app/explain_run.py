"""A small store of known latents with explanations, as `gossamer store build` and `gossamer explain` leave them."""

from explain_fixtures import WINDOWS, Script, feature, planted_store

from gossamer.explain import ChatJudge, ExplainSettings, ExplanationStudy
from gossamer.files import write_json
from gossamer.store import FeatureStore

LATENTS = (0, 2, 3, 4)


def write_explanations(folder):
    """The folders store and explain: rules, and a language model whose every third answer cannot be read."""
    _, dictionary = planted_store(folder / "store")
    answers = iter(range(10_000))
    judge = ChatJudge(
        Script(lambda request: "nothing" if next(answers) % 3 == 2 else "[1, 0, 1, 0, 1]"), logprobs=False
    )
    with FeatureStore(folder / "store") as store:
        study = ExplanationStudy(
            store,
            [feature(one) for one in LATENTS],
            ExplainSettings(windows=WINDOWS, scorers=("detection", "fuzzing")),
            dictionaries={dictionary.site: dictionary},
            judge=judge,
        )
        found = study.run(folder / "explain")
    for name in ("a", "b"):
        reply = {"text": "[1]", "model": "script", "prompt_tokens": 20, "output_tokens": 3}
        write_json(folder / "explain" / "answers" / f"{name}{name}" / f"{name}.json", reply)
    (folder / "explain" / "answers" / "broken.json").write_text("{")
    return found
