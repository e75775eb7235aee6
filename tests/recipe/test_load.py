"""Loading: paths and names, `extends`, overrides, and writing a recipe back."""

from pathlib import Path

import pytest

from rnode_dyn.recipe import list_recipes, load_recipe
from rnode_dyn.recipe.merge import overlay
from rnode_dyn.recipe.overrides import parse_override

BASE = """
name = "base"
[data]
dataset = "digits"
[model]
scales = "auto"
blocks = 2
[solver]
algorithm = "dopri5"
step = 0.25
[divergence]
probes = 3
"""
SCALES = """
name = "scales"
[data]
dataset = "digits"
[[model.scale]]
blocks = 1
split = true
[[model.scale]]
blocks = 2
"""


def test_a_path_is_loaded(write):
    recipe = load_recipe(write(BASE))
    assert (recipe.name, recipe.model.blocks, recipe.solver.step) == ("base", 2, 0.25)


def test_a_byte_order_mark_is_no_mistake(write):
    assert load_recipe(write(b"\xef\xbb\xbf" + BASE.encode())).name == "base"


@pytest.mark.parametrize("name", ["quickstart", "quickstart.toml", "ablation/none"])
@pytest.mark.usefixtures("packaged")
def test_a_packaged_recipe_is_found_by_name(name):
    assert load_recipe(name).name == name.removesuffix(".toml").replace("/", "-")


@pytest.mark.usefixtures("packaged")
def test_a_path_goes_before_a_name(write):
    write(BASE, "quickstart.toml")
    assert load_recipe("quickstart.toml").name == "base"
    assert load_recipe("quickstart").name == "quickstart"


@pytest.mark.usefixtures("packaged")
def test_a_folder_does_not_hide_a_name():
    Path("quickstart").mkdir()
    assert load_recipe("quickstart").name == "quickstart"


def test_packaged_recipes_are_listed(packaged):
    assert list_recipes() == [
        ("ablation/none", "No penalty", packaged / "ablation/none.toml"),
        ("quickstart", "Digits", packaged / "quickstart.toml"),
    ]


@pytest.mark.usefixtures("packaged")
def test_a_listed_title_may_be_inherited(write):
    write('extends = "quickstart.toml"\nname = "child"\n', "packaged/child.toml")
    assert [entry.title for entry in list_recipes() if entry.name == "child"] == ["Digits"]


def test_extends_merges_key_by_key_along_a_chain(write):
    write(BASE, "shared/base.toml")
    write('extends = "base.toml"\n[data]\nbatch_size = 7\n', "shared/middle.toml")
    top = write('extends = "shared/middle.toml"\nname = "top"\n[data]\nbatch_size = 9\n')
    recipe = load_recipe(top)
    assert (recipe.name, recipe.data.dataset, recipe.data.batch_size) == ("top", "digits", 9)
    assert recipe.model.blocks == 2


@pytest.mark.usefixtures("packaged")
def test_extends_takes_a_name(write):
    assert load_recipe(write('extends = "quickstart"\nname = "mine"\n')).data.dataset == "digits"


def test_extends_replaces_what_it_excludes(write):
    write(BASE, "base.toml")
    child = write(
        'extends = "base.toml"\n[solver]\nrtol = 1e-4\n[divergence]\nestimator = "exact"\n'
        "[[model.scale]]\nblocks = 1\n"
    )
    recipe = load_recipe(child)
    assert (recipe.solver.algorithm, recipe.solver.step, recipe.solver.rtol) == (
        "dopri5",
        None,
        1e-4,
    )
    assert recipe.divergence.probes is None
    assert (recipe.model.scales, len(recipe.model.scale)) == (None, 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=5", 5),
        ("a.b=1e-3", 1e-3),
        ("a.b=true", True),
        ("a.b=[1, 2]", [1, 2]),
        ("a.b={c = 1}", {"c": 1}),
        ('a.b="5"', "5"),
        ("a.b=moons", "moons"),
        (" a . b = moons ", "moons"),
        ("a.b=x=y", "x=y"),
        ("a.b=", ""),
        ("a.b=1\nc = 2", "1\nc = 2"),
        ("a.b=/data/photos 32", "/data/photos 32"),
    ],
)
def test_an_override_is_toml_or_text(text, value):
    override = parse_override(text)
    assert (override.keys, override.value) == (("a", "b"), value)


def test_overrides_reach_tables_that_were_not_given(write):
    recipe = load_recipe(write(BASE), ["train.epochs=5", "data.dataset=moons", "samples.count=4"])
    assert (recipe.train.epochs, recipe.data.dataset, recipe.samples.count) == (5, "moons", 4)


def test_an_override_reaches_an_entry_of_a_list(write):
    recipe = load_recipe(write(SCALES), ["model.scale.0.blocks=3", "model.scale.1.solver.step=0.5"])
    assert [scale.blocks for scale in recipe.model.scale] == [3, 2]
    assert recipe.model.scale[0].split
    assert recipe.for_scale(1).solver.step == 0.5


def test_an_override_reaches_an_entry_that_another_made(write):
    overrides = ["model.scale=[{blocks = 1}, {blocks = 1}]", "model.scale.1.blocks=4"]
    recipe = load_recipe(write(BASE), overrides)
    assert [scale.blocks for scale in recipe.model.scale] == [1, 4]


def test_the_last_override_of_a_key_holds(write):
    assert load_recipe(write(BASE), ["seed=1", "seed=2"]).seed == 2


def test_an_algorithm_alone_keeps_the_fixed_step(write):
    assert load_recipe(write(BASE), ["solver.algorithm=tsit5"]).solver.step == 0.25


def test_an_override_replaces_what_it_excludes(write):
    assert load_recipe(write(BASE), ["solver.atol=1e-3"]).solver.adaptive
    assert load_recipe(write(SCALES), ["model.scales=auto"]).model.scale == ()


def test_stages_that_say_when_they_end_replace_the_trainings_end(write):
    write(BASE + "\n[train]\nepochs = 7\nmax_minutes = 2\n", "base.toml")
    child = 'extends = "base.toml"\n[[train.stage]]\nobjective = "flow-matching"\nmax_steps = 3\n'
    one, open_ended = write(child, "one.toml"), "[[train.stage]]\n"
    assert [load_recipe(one).train.epochs, load_recipe(one).train.max_minutes] == [None, None]
    two = write(child + open_ended, "two.toml")
    assert [stage.epochs for stage in load_recipe(two).train.stages] == [None, 7]
    ended = load_recipe(two, ["train.stage.1.max_steps=4"])
    assert [stage.max_steps for stage in ended.train.stages] == [3, 4]
    assert ended.train.epochs is None


def test_a_stage_of_the_likelihood_drops_the_paths_it_inherits(write):
    matching = 'objective = "flow-matching"\npace = 1.5\ncoupling = "minibatch-ot"\n'
    recipe = write(BASE + "\n[[train.stage]]\n" + matching + "epochs = 2\n")
    (stage,) = load_recipe(recipe, ["train.stage.0.objective=likelihood"]).train.stages
    assert (stage.objective, stage.pace, stage.coupling, stage.epochs) == (
        "likelihood",
        None,
        None,
        2,
    )


def test_layers_are_left_as_they_were():
    base, over = {"a": {"step": 1}}, {"a": {"rtol": 2}}
    assert overlay(base, over) == {"a": {"rtol": 2}}
    assert (base, over) == ({"a": {"step": 1}}, {"a": {"rtol": 2}})
