"""How arms are compared."""

from dataclasses import dataclass

from gossamer.errors import UsageError

_SMALLEST_BUDGET = 16


@dataclass(frozen=True)
class AdversarialSettings:
    """How arms are compared.

    Attributes:
        budget: forward passes of one prompt of each search; a backward pass costs two.
        searches: of each arm, each on prompts of its own.
        prompts: of a search; it succeeds when its recipe breaks at least half of them.
        edits: in a recipe, at most.
        choice: further prompts of the search's words, on which an arm chooses among the recipes of its searches.
        held_out: prompts of other words and templates, on which the chosen recipe is measured.
        seed: of everything random.
    """

    budget: int = 128
    searches: int = 20
    prompts: int = 4
    edits: int = 3
    choice: int = 24
    held_out: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"budget": 2 * self.prompts, "searches": 1, "prompts": 1, "edits": 1, "choice": 1, "held_out": 1}
        for name, smallest in least.items():
            if (found := getattr(self, name)) < smallest:
                raise UsageError(f"{name}: at least {smallest} expected, found {found}")

    @property
    def budgets(self) -> tuple[int, ...]:
        """Powers of two up to the budget, and the budget."""
        powers = [2**power for power in range(_SMALLEST_BUDGET.bit_length() - 1, self.budget.bit_length())]
        return tuple(sorted({*(one for one in powers if one < self.budget), self.budget}))
