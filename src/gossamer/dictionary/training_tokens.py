"""On which tokens a dictionary learned, as far as its file says: it is measured and spliced in at those."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from gossamer.activations.token_mask import DEFAULT_MASK, TokenMask
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import GossamerError
from gossamer.model.language_model import LanguageModel
from gossamer.tokens import Tokens

_OURS = "token_mask"


@dataclass(frozen=True)
class TrainingTokens:
    """The tokens of a dictionary's training: our own record of them, or SAELens'.

    Attributes:
        mask: which tokens it learned from (SAELens: `seqpos_slice` and `exclude_special_tokens`). BOS and attention
            sinks are left out whatever a file says: no dictionary keeps them.
        bos: whether rows began with BOS (SAELens: `prepend_bos`); None: it does not say.
        context: tokens of a row (SAELens: `context_size`); None: it does not say.
    """

    mask: TokenMask = DEFAULT_MASK
    bos: bool | None = None
    context: int | None = None

    @classmethod
    def of(cls, dictionary: Dictionary) -> "TrainingTokens":
        """What a dictionary's provenance says.

        Raises:
            GossamerError: it says what cannot be meant.
        """
        said, where = dictionary.provenance.get("training"), f"dictionary at {dictionary.site}"
        said = said if isinstance(said, dict) else {}
        if _OURS in said:
            mask = TokenMask.from_facts(said[_OURS], where)
        else:
            mask = TokenMask.from_facts(_of_saelens(said, where), where)
        bos, context = said.get("prepend_bos"), said.get("context_size")
        _require(bos is None or isinstance(bos, bool), where, "prepend_bos", "true or false", bos)
        _require(context is None or _whole(context, 1), where, "context_size", "a number of tokens", context)
        return cls(mask, bos, context)


def mask_facts(mask: TokenMask) -> dict[str, Any]:
    """What a dictionary that is trained under a mask keeps of it; nothing of the default one."""
    return {_OURS: mask.facts} if mask.facts else {}


def counted_for(
    model: LanguageModel, dictionaries: Iterable[Dictionary], tokens: Tokens, mask: TokenMask | None = None
) -> Bool[Tensor, "batch pos"]:
    """True at the tokens that count under `mask`, by default at those on which all of the dictionaries learned.

    Without any dictionary, at those that count by default.

    Raises:
        GossamerError: a dictionary's record of its training cannot be meant.
        NotFiniteError: an activation that loud tokens are judged by is not finite.
    """
    masks = [TrainingTokens.of(one).mask for one in dictionaries] or [DEFAULT_MASK] if mask is None else [mask]
    counted = tokens.mask
    for one in dict.fromkeys(masks):
        counted = counted & one.counted(model, tokens)
    return counted


def _of_saelens(said: dict[str, Any], where: str) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    positions, special = said.get("seqpos_slice"), said.get("exclude_special_tokens")
    if positions is not None:
        fits = isinstance(positions, list) and all(one is None or _whole(one) for one in positions)
        _require(fits, where, "seqpos_slice", "the arguments of a slice", positions)
        if any(one is not None for one in positions):
            facts["positions"] = positions
    if isinstance(special, list):
        _require(all(map(_whole, special)), where, "exclude_special_tokens", "ids of tokens", special)
        facts["ids"] = special
    else:
        fits = special is None or isinstance(special, bool)
        _require(fits, where, "exclude_special_tokens", "true, false or ids of tokens", special)
        facts["special"] = not special
    return facts


def _whole(value: object, least: int | None = None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)


def _require(fits: bool, where: str, name: str, expected: str, found: object) -> None:
    if not fits:
        raise GossamerError(f"{where}: {name} of its training: expected {expected}, found {found!r}; mend its cfg.json")
