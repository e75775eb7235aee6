"""What the documentation is made of is made by what is said: pictures, keys, notebooks, recipes."""

import fnmatch
import importlib.util
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from rnode_dyn.recipe.keys import keys_below
from rnode_dyn.recipe.library import packaged_recipes
from rnode_dyn.recipe.schema import Recipe
from tests.docs.commands import check
from tests.docs.pages import PAGES, ROOT, blocks_of, name_of

DOCS = ROOT / "docs"
MADE_BY = tomllib.loads((DOCS / "pictures" / "made_by.toml").read_text(encoding="utf-8"))
PICTURES = [
    path.relative_to(DOCS / "assets").as_posix()
    for path in sorted((DOCS / "assets").rglob("*"))
    if path.suffix in {".png", ".svg", ".jpg", ".gif"}
]


def script(name: str) -> ModuleType:
    """One of the scripts that make the documentation."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, DOCS / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_has_the_command_that_made_it(picture: str) -> None:
    assert any(fnmatch.fnmatch(picture, pattern) for pattern in MADE_BY)


@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_is_shown(picture: str) -> None:
    pages = [page.read_text(encoding="utf-8") for page in PAGES]
    assert any(f"assets/{picture}" in page for page in pages)


@pytest.mark.parametrize("command", MADE_BY.values())
def test_commands_of_pictures_are_right(command: str) -> None:
    check(command)


def test_the_page_of_keys_has_each_key_once() -> None:
    headings = re.findall(r"^### (.+)$", script("key_reference.py").page(), re.M)
    assert len(headings) == len(set(headings))
    own = {".".join(part for part in key.split(".") if part != "0") for key in headings}
    tables = {"data", "model", "solver", "train", "samples", "divergence", "regularizers"}
    for path in keys_below(Recipe):
        key = ".".join(map(str, path))
        assert key in own or key in tables or any(known.startswith(f"{key}.") for known in own)


def test_defaults_of_keys_are_those_of_the_shortest_recipe() -> None:
    page = script("key_reference.py").page()
    entries = dict(re.findall(r"^### (\S+)\n\n.*?\n\n(.*?)\n", page, re.M))
    assert entries["train.epochs"].endswith("Default: `100` unless other keys decide.")
    assert entries["solver.step"].endswith("Default: `0.25` unless other keys decide.")
    assert entries["solver.eval.algorithm"].endswith('Default: `"dopri5"`.')
    assert entries["train.max_steps"] == "A whole number of at least 1. Absent."
    assert entries["data.dataset"].endswith("Required.")


TUTORIALS = [
    page for page in PAGES if page.parent.name == "tutorials" and blocks_of(page, "python")
]


@pytest.mark.parametrize("page", TUTORIALS, ids=name_of)
def test_notebook_has_the_code_of_its_page(page: Path) -> None:
    pytest.importorskip("jupytext", reason="notebooks need the docs extra")
    notebook = json.loads(script("notebooks.py").notebook_of(page.read_text(encoding="utf-8")))
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    python = [cell for cell in cells if not cell.startswith("%%bash")]
    assert python == [block.text.rstrip() for block in blocks_of(page, "python")]
    assert not any("```" in "".join(cell["source"]) for cell in notebook["cells"])


def test_every_recipe_is_on_the_page_of_recipes() -> None:
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(.+?)` \|", page, re.M)) == sorted(packaged_recipes())


@pytest.mark.parametrize("name", ["moons", "quickstart-warm", "mnist14", "mnist14-unet", "power"])
def test_figures_of_a_recipe_are_what_is_counted(name: str) -> None:
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert script("pictures/gallery.py").row(name) in page.splitlines()
