"""Names that people know pretrained dictionaries by, as references to the hub.

`saelens:RELEASE/ID` is looked up in the registry that SAELens ships, where that package is installed. Repositories of
Gemma Scope are known without it, by their own names: `gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71`.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from gossamer.errors import UsageError

SAELENS = "saelens:"
# What Google's releases are called, of both generations; one that is a folder here is that folder.
_GEMMA_SCOPE = re.compile(r"gemma-scope-[\w-]+/[\w./=+-]+(?:@[\w./-]+)?")
_OWNER = "google"
# Of names that were not found, those like them that an error lists.
_SAID = 4


def is_release(source: str | Path) -> bool:
    """Whether `source` is such a name rather than a path."""
    if not isinstance(source, str):
        return False
    return source.startswith(SAELENS) or (_GEMMA_SCOPE.fullmatch(source) is not None and not Path(source).exists())


def hub_reference(source: str) -> str:
    """The reference `hub:owner/repo/path` that a name stands for; `@revision` stays at its end.

    Raises:
        UsageError: no such release or dictionary in the registry, or no registry to look in.
    """
    name, at, revision = source.partition("@")
    if not source.startswith(SAELENS):
        return f"hub:{_OWNER}/{name}{at}{revision}"
    release, _, identifier = name.removeprefix(SAELENS).partition("/")
    if not (release and identifier):
        raise UsageError(
            f"{source}: {SAELENS}RELEASE/ID expected, as {SAELENS}gpt2-small-res-jb/blocks.8.hook_resid_pre"
        )
    return f"hub:{_registered(source, release, identifier)}{at}{revision}"


def _registered(source: str, release: str, identifier: str) -> str:
    """The repository and the path in it of a dictionary in SAELens' registry."""
    try:
        from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory
    except ImportError as error:
        raise UsageError(
            f"{source}: releases are looked up in SAELens' registry, which is not installed (pip install sae-lens); "
            "or give hub:owner/repo/path, or a repository of Gemma Scope by its own name (gemma-scope-2b-pt-res/...)"
        ) from error
    registry = get_pretrained_saes_directory()
    if release not in registry:
        raise UsageError(f"{source}: SAELens knows no release {release!r}{_like(release, registry)}")
    known = registry[release]
    if identifier not in known.saes_map:
        raise UsageError(f"{source}: {release} has no dictionary {identifier!r}{_like(identifier, known.saes_map)}")
    return f"{known.repo_id}/{known.saes_map[identifier]}".strip("/.")


def _like(name: str, known: Iterable[str]) -> str:
    listed = list(known)
    found = get_close_matches(name, listed, _SAID) or listed[:_SAID]
    return f"; {'its names are like' if found == listed[:_SAID] else 'like it are'} {', '.join(found)}"
