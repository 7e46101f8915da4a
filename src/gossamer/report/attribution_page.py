"""How information moved, as one HTML file to be clicked through: the record inside, a script that draws it."""

from pathlib import Path
from typing import Any

from gossamer import files
from gossamer.attention.attribution_data import FORMAT, AttributionData
from gossamer.report import html, text
from gossamer.results.values import to_json


def attribution_page(data: AttributionData) -> str:
    """The page as HTML text: styles, script and record inline, nothing fetched from anywhere.

    It is as large as the record in JSON (:func:`gossamer.attention.explore_prompt` says how large), and 60 kB.
    """
    return (
        html.environment()
        .get_template("attribution/page.html.j2")
        .render(
            data=data,
            component=html.component("attribution.js"),
            record=html.inline({"format": FORMAT.tag, **to_json(data, AttributionData)}),
            shown=html.inline(attribution_texts(data)),
        )
    )


def attribution_texts(data: AttributionData) -> dict[str, Any]:
    """Its texts, with nothing invisible in them."""
    tokens = [[text.visible(token) for token in prompt.tokens] for prompt in data.prompts]
    words = {
        one.site: {latent: [text.visible(word) for word in found] for latent, found in one.words.items()}
        for one in data.dictionaries
    }
    targets = [prompt.target and text.visible(prompt.target) for prompt in data.prompts]
    return {"texts": [" ".join(one) for one in tokens], "tokens": tokens, "targets": targets, "words": words}


def write_attribution_page(data: AttributionData, path: str | Path) -> Path:
    """Write the page, atomically. The same data give the same bytes.

    Args:
        data: what to draw.
        path: the HTML file.

    Returns:
        The path.

    Raises:
        GossamerError: it cannot be written.
    """
    return files.write_text(path, attribution_page(data))
