"""Are you smarter than an LLM? Rounds are made and judged here; the page never sees an answer before the end."""

import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query

from gossamer.app.run_folder import Part
from gossamer.app.schema.base import PartId
from gossamer.app.schema.game import (
    BoardRow,
    GameAnswer,
    GameItemShape,
    GameResult,
    GameRoundShape,
    GameText,
    PlayerShape,
    ToldItem,
)
from gossamer.app.workbench import UnknownError, Workbench
from gossamer.errors import UsageError
from gossamer.explain.game import GameRound, Played, add_to_board, board, drawn_round, result
from gossamer.explain.judges import ChatJudge
from gossamer.explain.windows import Window
from gossamer.report import text
from gossamer.store import FeatureStore

KIND = "feature store"
# Rounds that are kept: each takes some seconds to make.
_KEPT = 8
_MARKED = 0.3


def game_routes(bench: Workbench) -> APIRouter:
    """GET of a round, POST of what was said in it."""
    routes = APIRouter(prefix="/game")
    made, working = lru_cache(_KEPT)(_made), threading.Lock()

    @routes.get("/round")
    def round_of(
        store: PartId,
        seed: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
        count: Annotated[int, Query(ge=1, le=20)] = 10,
    ) -> GameRoundShape:
        """Latents to be named and texts to be sorted; the same seed gives the same ones in the same order."""
        found = _round(bench, made, working, store, seed, count)
        return GameRoundShape(
            **bench.said(),
            store=store,
            round=found.name,
            seed=seed,
            model=found.model,
            machines=[one.player for one in found.machines],
            items=[
                GameItemShape(
                    blind=item.blind,
                    shown=[_text(one) for one in item.shown],
                    choices=list(map(text.running, item.choices)),
                    sorted=[_text(one, marks=False) for one in item.sorted],
                )
                for item in found.items
            ],
            kept=_unkept(bench),
        )

    @routes.post("/answer")
    def answer(said: GameAnswer) -> GameResult:
        """Who was how right, what each latent stands for, and the leader board of the round."""
        found = _round(bench, made, working, said.store, said.seed, said.count)
        played = _played(found, said)
        path, unkept = bench.views / "game" / "board.json", _unkept(bench)
        with working:
            rows = board(path, found, played) if unkept else add_to_board(path, found, played)
        players = [played, *found.machines]
        shown = []
        for one in players:
            sorting, choosing = result(found, one)
            shown.append(PlayerShape.model_validate({"player": one.player, "sorting": sorting, "choosing": choosing}))
        return GameResult(
            **bench.said(),
            store=said.store,
            folder=str(_folder(bench, said.store).path.parent),
            round=found.name,
            players=shown,
            items=_told(found, players),
            board=[BoardRow.model_validate(row) for row in rows],
            kept=unkept,
        )

    return routes


def _made(folder: Path, changed: float, seed: int, count: int, judge: ChatJudge | None) -> GameRound:
    """A round of the store as it is now: `changed` is when it last did."""
    with FeatureStore(folder) as store:
        return drawn_round(store, count, seed, judge=judge)


def _round(
    bench: Workbench,
    made: Callable[[Path, float, int, int, ChatJudge | None], GameRound],
    working: threading.Lock,
    store: str,
    seed: int,
    count: int,
) -> GameRound:
    part = _folder(bench, store)
    with working:
        return made(part.path.parent, part.modified, seed, count, bench.judge)


def _folder(bench: Workbench, store: str) -> Part:
    """The manifest of a store of the run."""
    part = bench.run.part(store)
    if part is None or part.kind != KIND:
        raise UnknownError(f"{KIND} {store!r}: not in {bench.run.name}; `gossamer store build` makes one")
    return part


def _unkept(bench: Workbench) -> str | None:
    return None if bench.read_only is None else f"the result is not kept: {bench.read_only}"


def _played(found: GameRound, said: GameAnswer) -> Played:
    if said.round != found.name:
        raise UsageError(f"round: {found.name} expected for this seed, found {said.round}; begin it again")
    texts = [len(item.sorted) for item in found.items]
    if [len(one.answers) for one in said.items] != texts:
        raise UsageError(f"answers: one for each of {', '.join(map(str, texts))} texts expected, item by item")
    chosen = tuple(
        None if one.choice is None else one.choice == item.right
        for one, item in zip(said.items, found.items, strict=True)
    )
    machines = {one.player for one in found.machines}
    player = text.running(said.player.strip()) or "you"
    name = f"{player} (a person)" if player in machines else player
    return Played(
        name, chosen, tuple(one.written for one in said.items), tuple(tuple(one.answers) for one in said.items)
    )


def _told(found: GameRound, players: list[Played]) -> list[ToldItem]:
    own = players[0]
    return [
        ToldItem(
            blind=item.blind,
            feature=str(item.feature),
            text=text.running(item.choices[item.right]),
            right=own.chosen[place],
            written=text.running(own.written[place]),
            texts=[_text(one) for one in item.sorted],
            truths=list(item.truths),
            said={one.player: list(one.answers[place]) for one in players},
        )
        for place, item in enumerate(found.items)
    ]


def _text(window: Window, *, marks: bool = True) -> GameText:
    """A text; those to be sorted come without marks, since a mark is the answer."""
    strong = window.strong(_MARKED * window.maximum) if marks else ()
    return GameText(tokens=list(map(text.running, window.tokens)), marks=list(strong))
