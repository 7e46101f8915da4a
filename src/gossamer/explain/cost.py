"""What a study will cost, before the first question is asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from gossamer.chat.chat import LETTERS_PER_TOKEN, ChatReply, ChatRequest
from gossamer.chat.endpoint import Prices
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.explain.judges import ChatJudge
from gossamer.explain.study import ExplanationStudy

# Features whose questions are counted; the others are taken to be like them.
_COUNTED = 4
_SENTENCE = "tokens of a certain kind, about as many words as an explanation mostly has, in one sentence"


@dataclass(frozen=True)
class CostEstimate:
    """What is expected; tokens are counted as four letters.

    Attributes:
        questions: asked of the language model.
        prompt_tokens, output_tokens: of them; answers are taken to be as long as they may be.
        dollars: at the prices given.
    """

    questions: int
    prompt_tokens: int
    output_tokens: int
    dollars: float

    __repr__ = short_repr

    def __str__(self) -> str:
        return (
            f"about {self.questions:,} questions with {self.prompt_tokens:,} tokens, at most {self.output_tokens:,} in "
            f"answers: {self.dollars:.2f} dollars at the prices given"
        )


class _Counting:
    """A language model that is never asked: it remembers the questions."""

    def __init__(self, model: str) -> None:
        self.model, self.requests = model, list[ChatRequest]()

    def ask(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        self.requests += requests
        return [ChatReply(f"[EXPLANATION]: {_SENTENCE}")] * len(requests)


def estimate(study: ExplanationStudy, prices: Prices) -> CostEstimate:
    """What a study will ask: the questions of its first features are made and counted, not sent."""
    explaining, judging = _Counting("counted"), _Counting("counted")
    judge = study.judge and ChatJudge(judging, batch=study.judge.batch, logprobs=study.judge.logprobs)
    part = study.first(_COUNTED, explaining, judge)
    part.run()
    questions, prompt, output = 0.0, 0.0, 0.0
    for counting, features in ((explaining, study.features), (judging, study.to_score)):
        share = len(features) / len(part.features)
        questions += share * len(counting.requests)
        prompt += share * sum(one.letters for one in counting.requests) / LETTERS_PER_TOKEN
        output += share * sum(one.max_tokens for one in counting.requests)
    return CostEstimate(int(questions), int(prompt), int(output), prices.of(float(int(prompt)), float(int(output))))


def require_affordable(found: CostEstimate, most: float | None) -> None:
    """Refuse to begin what would cost more.

    Raises:
        UsageError: with the estimate.
    """
    if most is not None and found.dollars > most:
        raise UsageError(
            f"--max-cost: at most {most:.2f} dollars expected, found an estimate of {found.dollars:.2f} ({found}); "
            "explain fewer features, leave scorers out, or raise it"
        )
