"""Trains packaged recipes, and keeps of each its picture and its figures for the page of recipes.

``python docs/pictures/recipes.py RUNS moons rings`` runs what is not yet in the folder ``RUNS``,
draws ``docs/assets/recipes/NAME.png``, and writes ``docs/pictures/measured.json``.
"""

import argparse
import json
import time
from pathlib import Path

from PIL import Image

from rnode_dyn import load_recipe, run

DOCS = Path(__file__).parents[1]
MEASURED = DOCS / "pictures" / "measured.json"
FIGURES = ("bits_per_dim", "bits_per_dim_stderr", "log_likelihood_nats", "nfe_forward", "seed")
WIDTH = 640


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("names", nargs="+", help="recipes")
    arguments = parser.parse_args()
    for name in arguments.names:
        folder = arguments.runs / name
        if not (folder / "cpu_seconds.txt").exists():
            started = time.process_time()
            run(load_recipe(name), folder)
            seconds = time.process_time() - started
            (folder / "cpu_seconds.txt").write_text(f"{seconds:.0f}\n", encoding="utf-8")
        _keep(name, folder)


def _keep(name: str, folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    figures = {key: summary[key] for key in FIGURES}
    figures["cpu_seconds"] = int((folder / "cpu_seconds.txt").read_text(encoding="utf-8"))
    known = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    known[name] = figures
    MEASURED.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    _draw(name, folder)


def _draw(name: str, folder: Path) -> None:
    found = [folder / "samples" / f"{kind}.png" for kind in ("plane", "samples")]
    drawn = next(path for path in found if path.exists())
    picture = Image.open(drawn).convert("RGB")
    picture.thumbnail((WIDTH, WIDTH))
    (DOCS / "assets" / "recipes").mkdir(exist_ok=True)
    picture.quantize(128).save(DOCS / "assets" / "recipes" / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
