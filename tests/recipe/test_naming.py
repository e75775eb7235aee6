"""A name is a name, and no path: on any system."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnode_dyn import RecipeError, load_recipe
from rnode_dyn.recipe.naming import fault_in, nearest_right

WRONG = [
    "../../evil",
    "a/b",
    "/tmp/evil",
    "a\\b",
    "c:evil",
    ".",
    "..",
    ".hidden",
    "~",
    "~root",
    "-rf",
    " x",
    "x ",
    "x.",
    "a\0b",
    "a\nb",
    "a\u202eb",
    "what?",
    "a*",
    '"quoted"',
    "con",
    "NUL.txt",
    "lpt1",
    "x" * 101,
    "ü" * 51,
    "   ",
]


@pytest.mark.parametrize("name", WRONG)
def test_paths_and_what_no_file_can_be_called_are_refused(name: str, write) -> None:
    path = write(f'name = {json.dumps(name)}\n[data]\ndataset = "moons"\n')
    with pytest.raises(RecipeError) as refusal:
        load_recipe(path)
    assert "name: " in str(refusal.value)
    assert fault_in(name)
    assert not fault_in(nearest_right(name))


@pytest.mark.parametrize(
    "name", ["moons", "mnist-warm", "my run 2", "Zürich", "a.b", "2026", "x" * 100]
)
def test_names_are_taken(name: str, write) -> None:
    path = write('name = "good"\n[data]\ndataset = "moons"\n')
    assert load_recipe(path, [f"name='{name}'"]).name == name


def test_an_empty_name_is_refused(write) -> None:
    with pytest.raises(RecipeError, match="name: "):
        load_recipe(write('name = ""\n[data]\ndataset = "moons"\n'))


def test_the_nearest_right_name_is_offered(write) -> None:
    with pytest.raises(RecipeError, match=r"'/' cannot be part of a name.*did you mean evil\?"):
        load_recipe(write('name = "../../evil"\n[data]\ndataset = "moons"\n'))


@given(st.text(max_size=300))
def test_there_is_a_right_name_near_every_text(text: str) -> None:
    assert not fault_in(nearest_right(text))
