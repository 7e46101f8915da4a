"""The figures of the walkthrough."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage

INK, MUTED, FAINT, BAR = "#1c2128", "#626b77", "#c9d0d8", "#1a5ba6"
PAGE, DPI = 6.9, 220


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure in the look of a two-column paper, written to `path` at the end."""
    settings = {
        "font.size": 7.5,
        "axes.titlesize": 8,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.edgecolor": FAINT,
        "axes.linewidth": 0.6,
        "text.color": INK,
        "axes.labelcolor": INK,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.labelsize": 6.5,
        "ytick.labelsize": 6.5,
        "xtick.major.size": 2,
        "ytick.major.size": 2,
    }
    with plt.rc_context(settings):
        made = plt.figure(figsize=(width, height), layout="constrained")
        yield made
        made.savefig(path, dpi=DPI)
        plt.close(made)


def patching(path: Path, exact: np.ndarray, estimate: np.ndarray, labels: Sequence[str]) -> None:
    """Two maps over layers and positions: patched one by one, and estimated by gradients."""
    with figure(path, PAGE, 2.55) as made:
        axes = made.subplots(1, 2, sharey=True)
        titles = ("Activation patching", "Attribution patching (first order)")
        for ax, values, title in zip(axes, (exact, estimate), titles, strict=True):
            image = _map(ax, values, limit=1.0)
            ax.set_title(title)
            ax.set_xticks(range(len(labels)), labels, rotation=60, ha="right", rotation_mode="anchor")
            for tick, label in zip(ax.get_xticklabels(), labels, strict=True):
                tick.set_fontweight("bold" if label in ("IO", "S1", "S2") else "normal")
            _numbers(ax, values, above=0.045)
        axes[0].set_ylabel("stream after layer")
        bar = made.colorbar(image, ax=axes, shrink=0.85, pad=0.01, ticks=[-1, -0.5, 0, 0.5, 1])
        bar.outline.set_visible(False)
        bar.set_label("logit difference recovered")


def heads(path: Path, patterns: np.ndarray, labels: Sequence[str]) -> tuple[int, int]:
    """Where each head looks from the last token, and the whole pattern of the one that looks most at IO; returns it.

    Args:
        path: the file to write.
        patterns: attention weights averaged over prompts, (layer, head, query, key).
        labels: what stands at each position.
    """
    last = patterns[:, :, -1]
    to = {role: last[:, :, labels.index(role)] for role in ("IO", "S1", "S2")}
    layer, head = (int(index) for index in np.unravel_index(np.argmax(to["IO"]), to["IO"].shape))
    with figure(path, PAGE, 2.6) as made:
        left, right = _side_by_side(made)
        axes = left.subplots(1, 3, sharey=True)
        for ax, (role, weights) in zip(axes, to.items(), strict=True):
            image = ax.imshow(weights, origin="lower", cmap="Blues", vmin=0, vmax=1, aspect="auto")
            ax.set_title(f"last token to {role}")
            ax.set_xticks(range(0, weights.shape[1], 5))
            ax.set_yticks(range(weights.shape[0]))
            ax.set_xlabel("head")
        axes[0].set_ylabel("layer")
        axes[0].plot(head, layer, marker="s", markersize=8, markerfacecolor="none", markeredgecolor="#c4551b")
        bar = left.colorbar(image, ax=axes, location="bottom", shrink=0.5, aspect=40, pad=0.03)
        bar.outline.set_visible(False)
        bar.set_label("attention weight")
        ax = right.subplots()
        ax.imshow(patterns[layer, head], cmap="Blues", vmin=0, vmax=1)
        ax.set_title(f"Head {layer}.{head}")
        ax.set_xticks(range(len(labels)), labels, rotation=90)
        ax.set_yticks(range(len(labels)), labels)
        ax.set_xlabel("to")
        ax.set_ylabel("from")
    return layer, head


def splices(path: Path, differences: Mapping[str, float]) -> None:
    """The logit difference with dictionaries in the stream, as bars."""
    with figure(path, PAGE / 2, 0.55 + 0.22 * len(differences)) as made:
        ax = made.subplots()
        names = list(differences)[::-1]
        values = [differences[name] for name in names]
        ax.barh(names, values, color=[FAINT if name == "model" else BAR for name in names], height=0.66)
        for row, value in enumerate(values):
            ax.text(value, row, f" {value:.1f}", va="center", fontsize=6.5)
        ax.axvline(0, color=MUTED, linewidth=0.6)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
        ax.set_xlabel("logit difference, IO over S")
        ax.set_title("With dictionaries in the residual stream")
        ax.margins(x=0.12)


def _side_by_side(made: Figure) -> tuple[SubFigure, SubFigure]:
    both: np.ndarray = np.asarray(made.subfigures(1, 2, width_ratios=[1.55, 1]))
    return both[0], both[1]


def _map(ax: Axes, values: np.ndarray, limit: float) -> AxesImage:
    image = ax.imshow(values, origin="lower", cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    ax.set_yticks(range(len(values)))
    ax.set_xticks(np.arange(-0.5, values.shape[1]), minor=True)
    ax.set_yticks(np.arange(-0.5, len(values)), minor=True)
    ax.grid(which="minor", color="#eef1f4", linewidth=0.5)
    ax.tick_params(which="minor", length=0)
    return image


def _numbers(ax: Axes, values: np.ndarray, above: float) -> None:
    for (layer, position), value in np.ndenumerate(values):
        if abs(value) > above:
            text = f"{value:.2f}".replace("0.", ".").replace("-", "−")
            color = "white" if abs(value) > 0.6 else INK
            ax.text(position, layer, text, ha="center", va="center", fontsize=4.6, color=color)
