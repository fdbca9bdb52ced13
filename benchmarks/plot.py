"""Draws bars from the numbers on the standard input: `python -m benchmarks.plot FILE.svg`. Needs matplotlib."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

from benchmarks.tables import number

_OURS, _OTHERS = "#2a6f97", "#adb5bd"


def draw(panels: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """One panel for each title, of horizontal bars on a logarithmic scale.

    Text stays text, and no date and no random name go in: the same numbers make the same file.
    """
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "mrlclient", "font.family": "sans-serif"})
    heights = [len(bars) for bars in panels.values()]
    figure, axes = plt.subplots(
        len(panels), 1, figsize=(8, 0.34 * sum(heights) + 1.0 * len(panels)), height_ratios=heights, squeeze=False
    )
    for axis, (title, bars) in zip(axes[:, 0], panels.items(), strict=True):
        labels = [label.replace("`", "") for label in bars]
        colours = [_OURS if label.startswith("mrlclient") else _OTHERS for label in labels]
        drawn = axis.barh(labels, list(bars.values()), color=colours)
        axis.bar_label(drawn, [number(value) for value in bars.values()], padding=3)
        axis.set_xscale("log")
        axis.set_xlim(10 ** math.floor(math.log10(min(bars.values()))), max(bars.values()) * 3)
        axis.minorticks_off()
        axis.xaxis.set_major_formatter("{x:,g}")
        axis.invert_yaxis()
        axis.set_title(title, fontsize=10, loc="left")
        axis.set_xlabel("less is better; each step is ten times the one before", fontsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.load(sys.stdin), Path(sys.argv[1]))
