"""Draws the paths of flow matching: two groups of coordinates, of which one leaves at a split.

``python docs/pictures/straight_paths.py`` writes ``docs/assets/straight-paths.png``.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

PICTURE = Path(__file__).parents[1] / "assets" / "straight-paths.png"
BLOCKS, LEAVES, EACH = 6, 4, 8
GROUPS = {
    LEAVES: ("#D55E00", f"leaves at the split, after block {LEAVES}: e = {LEAVES}"),
    BLOCKS: ("#0072B2", f"goes through all blocks: e = {BLOCKS}"),
}


def main() -> None:
    """Draw each coordinate from its datum to its noise."""
    generator = np.random.default_rng(0)
    figure, axes = plt.subplots(figsize=(8.8, 3.6), layout="constrained")
    for end, (colour, label) in GROUPS.items():
        data = generator.choice([-4.0, 4.0], EACH) + 0.3 * generator.standard_normal(EACH)
        noise = generator.standard_normal(EACH)
        axes.plot([0, end], [data, noise], color=colour, alpha=0.85)
        axes.plot(np.zeros(EACH), data, "s", ms=4, color=colour)
        axes.plot(np.full(EACH, end), noise, "o", ms=5, color=colour, label=label)
    for block in range(BLOCKS):
        axes.axvline(block + 1, color="grey", ls=":")
        axes.text(block + 0.5, 5.4, f"block {block + 1}", ha="center")
    axes.set(xlabel="global time s  (0: data)", ylabel="coordinate x(s)", yticks=[], ylim=(-5, 5.2))
    axes.legend(loc="lower right")
    figure.savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    main()
