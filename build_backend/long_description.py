"""The README as a package index shows it: there it has no repository beside it, so that links have to be absolute."""

import re

# Of images and links in Markdown: what comes before the target, the target, and what closes it.
_IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
_LINK = re.compile(r"(?<!!)\[((?:[^\]\[]|!\[[^\]]*\]\([^)]*\))*)\]\(([^)\s]+)\)")
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*:|#", re.IGNORECASE)


def long_description(readme: str, repository: str | None, tag: str) -> str:
    """`readme` with absolute links.

    Args:
        readme: Markdown whose links are relative to the repository.
        repository: its address, as https://HOST/OWNER/NAME, in the form of GitHub; None where the package is built
            without one: images are left out then, and of links their words stay.
        tag: of the version, in the repository.
    """

    def image(found: re.Match[str]) -> str:
        words, target = found.groups()
        if _ABSOLUTE.match(target):
            return found[0]
        return "" if repository is None else f"![{words}]({repository}/raw/{tag}/{target})"

    def link(found: re.Match[str]) -> str:
        words, target = found.groups()
        if _ABSOLUTE.match(target):
            return found[0]
        return words if repository is None else f"[{words}]({repository}/blob/{tag}/{target})"

    return _LINK.sub(link, _IMAGE.sub(image, readme))
