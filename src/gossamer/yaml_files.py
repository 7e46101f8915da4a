"""Reading YAML of other people: values that JSON has too, and no more of them than the file writes down."""

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from gossamer.errors import GossamerError
from gossamer.files import read_text

# Of a configuration, in bytes.
LIMIT = 1 << 24


class _Plain(yaml.SafeLoader):  # type: ignore[misc]
    """Words stay words where YAML would make dates of them; references, a few of which make billions, are refused."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, f"a reference (*{event.anchor})", event.start_mark)
        return super().compose_node(parent, index)


_Plain.yaml_implicit_resolvers = {
    start: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for start, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a file of YAML (JSON is YAML too).

    Raises:
        UsageError: it is missing, unreadable or too large.
        GossamerError: damaged, with tags or references, or something else than a mapping from words.
    """
    try:
        found = yaml.load(read_text(path, "YAML", LIMIT), _Plain)
    except RecursionError as error:
        raise GossamerError(f"{path}: expected YAML, found lists or mappings nested too deep; restore it") from error
    # Numbers that Python cannot hold are errors of its own.
    except (yaml.YAMLError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise GossamerError(f"{path}: expected plain YAML, found damage ({reason}); restore or correct it") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise GossamerError(f"{path}: expected a YAML mapping from words, found {type(found).__name__}; restore it")
    return found
