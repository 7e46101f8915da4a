"""Names of settings in the files of earlier versions, and what they are called now."""

from typing import Any

_FIELDS = {"learner": "trainer", "remedy": "dead_latents"}
_OBJECTIVES = {"april": "norm_weighted_l1"}


def with_present_names(facts: Any) -> Any:
    """Settings as JSON, under the names of the present version, wherever in them they stand."""
    if isinstance(facts, dict):
        found = {_FIELDS.get(name, name): with_present_names(value) for name, value in facts.items()}
        if isinstance(found.get("name"), str):
            found["name"] = _OBJECTIVES.get(found["name"], found["name"])
        return found
    return [with_present_names(one) for one in facts] if isinstance(facts, list) else facts
