"""Writes the page of the packaged recipes: what each needs, how large it is, what to expect.

``python docs/pictures/gallery.py`` counts parameters, evaluations and hours of each recipe, takes
what ``docs/pictures/recipes.py`` has measured, and writes ``docs/gallery.md``.
"""

import json
import tomllib
from collections.abc import Collection
from pathlib import Path

from rnode_dyn import MultiscaleFlow, Recipe, RegularizedFlow, build_model, load_recipe
from rnode_dyn.costs.architecture import describe_model
from rnode_dyn.costs.cost import training_cost
from rnode_dyn.costs.epoch import hours, train_size
from rnode_dyn.costs.stages import likelihood_batch_size
from rnode_dyn.recipe.build import governed_blocks

DOCS = Path(__file__).parents[1]
PAGE = DOCS / "gallery.md"
SAID = tomllib.loads((DOCS / "pictures" / "gallery.toml").read_text(encoding="utf-8"))
MEASURED = json.loads((DOCS / "pictures" / "measured.json").read_text(encoding="utf-8"))
FLOPS = 1.5e11
_OPENING = """---
hide:
  - toc
---

# The recipes that come with it

`rnode-dyn run NAME` runs one, `rnode-dyn show NAME` draws its model and counts what training it \
costs, and each is a short file to begin one's own from, by `extends`.

- *evaluations*: of the field in a training pass, where steps are fixed; else how they are chosen.
- *time*: in seconds, measured: CPU time of the whole run on one core; with the word *epoch*, \
predicted: what `rnode-dyn show NAME --flops 1.5e11` says of one pass of the likelihood over the \
data on two cores, of which one does \
[78 billion operations a second](performance.md) in a step of `mnist`.
- *bits/dim*: what to expect on the test split, with the recipe's seed; of the plane's and the \
tables' with nothing to dequantize, `log_likelihood_nats` is the same figure in nats.

`python docs/pictures/recipes.py RUNS NAME…` makes the pictures and measures; \
`python docs/pictures/gallery.py` writes this page.
"""
_HEAD = (
    "| recipe | what | parameters | evaluations | time | bits/dim |",
    "|---|---|---:|---:|---:|---|",
)


def main() -> None:
    """Write the page."""
    sections = [_section(**group) for group in SAID["group"]]
    PAGE.write_text("\n".join([_OPENING, *sections]), encoding="utf-8")


def _section(title: str, text: str, recipes: list[str]) -> str:
    pictures = {name: SAID["picture"].get(name, f"recipes/{name}.png") for name in recipes}
    there = {name: p for name, p in pictures.items() if (DOCS / "assets" / p).exists()}
    shown = [f"![What `{name}` draws](assets/{p})\n" for name, p in there.items()]
    rows = [row(name) for name in recipes]
    return "\n".join([f"## {title}\n", f"{text}\n", *_HEAD, *rows, "", *shown])


def row(name: str) -> str:
    """One recipe's line of the table."""
    recipe = load_recipe(name)
    cells = [f"`{name}`", recipe.title, *_counted(name, recipe), _figure(name)]
    return f"| {' | '.join(cells)} |"


def _counted(name: str, recipe: Recipe) -> list[str]:
    model = build_model(recipe)
    governed = governed_blocks(recipe, model)
    figures = describe_model(model, governed)
    chosen = "chosen" if governed else "adaptive"
    evaluations = str(figures["evaluations_per_forward"] or chosen)
    time = SAID["seconds"].get(name) or _seconds(name) or _epoch(recipe, model, governed)
    return [f"{figures['parameters']:,}", evaluations, time]


def _seconds(name: str) -> str | None:
    return f"{MEASURED[name]['cpu_seconds']} s" if name in MEASURED else None


def _epoch(recipe: Recipe, model: MultiscaleFlow, governed: Collection[RegularizedFlow]) -> str:
    samples = train_size(recipe.data)
    if samples is None:
        return "by the files"
    cost = training_cost(model, likelihood_batch_size(recipe), None, governed)
    took = hours(samples, cost.step_flops / cost.batch_size, FLOPS)
    for unit, length in (("h", 1.0), ("min", 1 / 60)):
        if took >= length:
            return f"epoch {took / length:,.0f} {unit}"
    return f"epoch {3600 * took:.0f} s"


def _figure(name: str) -> str:
    if name in SAID["figure"]:
        return SAID["figure"][name]
    if name not in MEASURED:
        return "not run here"
    found = MEASURED[name]
    figure = f"{found['bits_per_dim']:.3f} ± {found['bits_per_dim_stderr']:.3f}"
    return f"{figure}, {found['nfe_forward']:.0f} evaluations at 1e-5, seed {found['seed']}"


if __name__ == "__main__":
    main()
