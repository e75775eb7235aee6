"""Draws the picture of the home page: two moons, their density, and paths curled and straight.

``python docs/pictures/home.py RUNS`` trains the recipe ``moons`` with its penalties and without,
unless the folder ``RUNS`` has these runs, and writes ``docs/assets/straight-and-curled.png``.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from rnode_dyn import Run, load_data, load_recipe, load_run, plot, run

PICTURE = Path(__file__).parents[1] / "assets" / "straight-and-curled.png"
FREE = ["regularizers.kinetic_energy=0", "regularizers.jacobian_frobenius=0"]


def main(runs: Path) -> None:
    """Train what is missing, and draw."""
    straight, curled = _trained(runs / "moons", []), _trained(runs / "moons-free", FREE)
    points = load_data("moons", seed=straight.recipe.seed).test.head(2000)
    figure, (data, density, left, right) = plt.subplots(
        1, 4, figsize=(14, 4.1), layout="constrained", sharex=True, sharey=True
    )
    plot.samples(points, ax=data).set_title("data")
    plot.density(straight, limit=4.0, ax=density)
    _draw_paths(left, curled, points, "paths without the penalties")
    _draw_paths(right, straight, points, "paths with them")
    figure.savefig(PICTURE, dpi=100)


def _trained(folder: Path, overrides: list[str]) -> Run:
    if not folder.exists():
        run(load_recipe("moons", overrides), folder)
    return load_run(folder)


def _draw_paths(axes: Axes, trained: Run, points: object, title: str) -> None:
    plot.trajectories(trained, points, limit=4.0, ax=axes)
    energy, evaluations = (trained.summary[key] for key in ("kinetic_energy", "nfe_forward"))
    axes.set_title(f"{title}:\n{evaluations:.0f} evaluations, kinetic energy {energy:.2f}")
    axes.get_legend().remove()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="folder of the runs")
    main(**vars(parser.parse_args()))
