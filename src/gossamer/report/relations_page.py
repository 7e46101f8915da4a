"""Relations between features as one HTML file to click through: the record inside, a script that draws it."""

from pathlib import Path
from typing import Any

from gossamer import files
from gossamer.relations.relations_data import FORMAT, LatentFacts, RelationsData
from gossamer.report import html, text
from gossamer.report.snippets import snippets


def relations_page(data: RelationsData) -> str:
    """The page as HTML text: styles, script and record inline, nothing fetched from anywhere.

    It is as large as the record in JSON (:func:`gossamer.relations.relations_data` says how large), and 80 kB. What is
    not in the data (no gates, no prompts) has a line that says so.
    """
    return (
        html.environment()
        .get_template("relations/page.html.j2")
        .render(
            data=data,
            tokens=max((pair.tokens for pair in data.pairs), default=0),
            kept=sum(pair.kept for pair in data.pairs),
            component=html.component("relations.js"),
            record=html.inline(FORMAT.encode(data)),
            shown=html.inline(relations_texts(data)),
        )
    )


def relations_texts(data: RelationsData) -> dict[str, Any]:
    """The texts of what the component `relations.js` draws, with nothing invisible in them."""
    return {
        "texts": [text.visible(prompt.text, 80) for prompt in data.prompts],
        "tokens": [[text.visible(token) for token in prompt.tokens] for prompt in data.prompts],
        "latents": {
            name: {latent: _latent(facts) for latent, facts in own.items()} for name, own in data.latents.items()
        },
        "labels": [[[text.visible(word) for word in one.words] for one in found.labels] for found in data.communities],
    }


def write_relations_page(data: RelationsData, path: str | Path) -> Path:
    """Write the page, atomically. The same data give the same bytes.

    Args:
        data: what to draw.
        path: the HTML file.

    Returns:
        The path.

    Raises:
        GossamerError: it cannot be written.
    """
    return files.write_text(path, relations_page(data))


def _latent(facts: LatentFacts) -> dict[str, Any]:
    """What is said of a latent, as it is shown; nothing that is not there."""
    found: dict[str, Any] = {"words": [text.visible(word) for word in facts.words]}
    if facts.explanation:
        found["explanation"] = text.visible(facts.explanation)
    # Addresses come from files of other people: only web addresses become links.
    if facts.link and facts.link.startswith(("https://", "http://")):
        found["link"] = facts.link
    if facts.examples:
        found["examples"] = [
            {
                "before": ("… " if one.cut_left else "") + text.running(one.before),
                "token": text.running((one.token,)),
                "after": text.running(one.after) + (" …" if one.cut_right else ""),
                "activation": one.activation,
            }
            for one in snippets(facts.examples)
        ]
    return found
