"""Wrong recipes: one message each, with the place, what is wrong, and what is right."""

import errno
import pickle
from pathlib import Path

import pytest

from rnode_dyn.recipe import Problem, RecipeError, load_recipe

START = 'name = "x"\n[data]\ndataset = "digits"\n'


def message_of(path, overrides=()) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return caught.value


WRONG = [
    # unknown keys
    (
        "[modle]\n",
        "modle",
        "unknown key; given a table; allowed: the keys name, title, seed",
        "model",
    ),
    ("batchsize = 3\n", "data.batchsize", "unknown key; given 3", "data.batch_size"),
    ("epochs = 3\n", "data.epochs", "unknown key; given 3", "train.epochs"),
    ("[model]\nlearning_rate = 1\n", "model.learning_rate", "unknown key", "train.learning_rate"),
    ("[model]\nhidden = [1]\n", "model.hidden", "given [1]", "model.field.hidden"),
    ("[train]\nstep = 1\n", "train.step", "unknown key", "solver.step"),
    ("[solver]\nnoise = 'x'\n", "solver.noise", "given 'x'", "divergence.noise"),
    ("[solver.eval]\nrtoll = 1\n", "solver.eval.rtoll", "given 1", "solver.eval.rtol"),
    ("[solver.eval]\nsensitivity = 'x'\n", "solver.eval.sensitivity", "", "solver.sensitivity"),
    ("[[model.scale]]\nblock = 1\n", "model.scale.0.block", "given 1", "model.scale.0.blocks"),
    ("[[model.scale]]\nhidden = 1\n", "model.scale.0.hidden", "", "model.scale.0.field.hidden"),
    ("[train]\nxyzzy = true\n", "train.xyzzy", "unknown key; given true; allowed: the keys", ""),
    # wrong types
    ("seed = 1\n", "data.seed", "unknown key", "seed"),
    (
        "batch_size = 'abc'\n",
        "data.batch_size",
        "given 'abc' (a string); allowed: a whole number",
        "",
    ),
    ("batch_size = '3'\n", "data.batch_size", "given '3' (a string)", ""),
    (
        "batch_size = 2.5\n",
        "data.batch_size",
        "given 2.5; allowed: a whole number of at least 1",
        "",
    ),
    (
        "batch_size = true\n",
        "data.batch_size",
        "given true (a boolean); allowed: a whole number",
        "",
    ),
    ("flips = 1\n", "data.flips", "given 1; allowed: true or false", ""),
    ("root = 3\n", "data.root", "given 3; allowed: text that is not empty", ""),
    ("root = ''\n", "data.root", "given ''; allowed: text that is not empty", ""),
    ("root = 2020-01-02\n", "data.root", "given 2020-01-02; allowed: text", ""),
    (
        "[solver]\nstep = '1'\n",
        "solver.step",
        "given '1' (a string); allowed: a number above 0",
        "",
    ),
    (
        "[solver]\nstep = true\n",
        "solver.step",
        "given true (a boolean); allowed: a number above 0",
        "",
    ),
    (
        "[model]\nfield = 'conv'\n",
        "model.field",
        "given 'conv' (a string); allowed: a table with",
        "",
    ),
    ("[model]\nscale = 3\n", "model.scale", "given 3; allowed: a list, each entry a table", ""),
    ("[model]\nscale = [3]\n", "model.scale.0", "given 3; allowed: a table with the keys", ""),
    ("[model.field]\nhidden = 64\n", "model.field.hidden", "allowed: a list that is not empty", ""),
    (
        "[model.field]\nhidden = 'ab'\n",
        "model.field.hidden",
        "given 'ab' (a string); allowed: a list",
        "",
    ),
    ("[model.field]\nhidden = []\n", "model.field.hidden", "given []", ""),
    ("[model.field]\nhidden = [1, 'a']\n", "model.field.hidden.1", "given 'a' (a string)", ""),
    ("[train]\ndevices = 'all'\n", "train.devices", 'a whole number of at least 1 or "auto"', ""),
    (
        "[train]\ndevices = 0\n",
        "train.devices",
        "given 0; allowed: a whole number of at least 1",
        "",
    ),
    # out of bounds
    ("batch_size = 0\n", "data.batch_size", "given 0; allowed: a whole number of at least 1", ""),
    ("workers = -1\n", "data.workers", "given -1; allowed: a whole number of at least 0", ""),
    ("levels = 1\n", "data.levels", "given 1; allowed: a whole number of at least 2", ""),
    ("[solver]\nstep = -0.25\n", "solver.step", "given -0.25; allowed: a number above 0", ""),
    ("[solver]\nstep = nan\n", "solver.step", "given nan; allowed: a number above 0", ""),
    ("[solver]\nstep = inf\n", "solver.step", "given inf; allowed: a number above 0", ""),
    ("[train]\nema = 1.0\n", "train.ema", "given 1.0; allowed: a number above 0 and below 1", ""),
    (
        "[model]\nlogit_alpha = 0.5\n",
        "model.logit_alpha",
        "a number of at least 0 and below 0.5",
        "",
    ),
    ("[regularizers]\nkinetic_energy = -1\n", "regularizers.kinetic_energy", "given -1", ""),
    ("[[model.scale]]\nblocks = 0\nsqueeze = true\n", "model.scale.0.blocks", "given 0", ""),
    ("[regularizers]\ntaylor_order = 0\n", "regularizers.taylor_order", "given 0", ""),
    (
        "[regularizers]\nerror_estimate = 1\n",
        "regularizers.error_estimate",
        "rk4 does not estimate its error",
        "",
    ),
    (
        "[solver]\nalgorithm = 'dopri5'\nsensitivity = 'backsolve'\n"
        "[regularizers]\nstiffness = 1\n",
        "regularizers.stiffness",
        "a sum over the steps, which backsolve",
        "",
    ),
    (
        "[solver.eval]\nalgorithm = 'bosh3'\n[regularizers]\nstiffness = 1\n",
        "regularizers.stiffness",
        "bosh3 has no two stages at the same time",
        "",
    ),
    (
        "[solver.quadrature]\nrule = 'gauss'\nnodes = 3\n"
        "[regularizers]\ntrajectory_polynomial = 1\n",
        "regularizers.trajectory_polynomial",
        "no integral that nodes could take",
        "",
    ),
    ("[model]\nend_time = [1.25, 0.75]\n", "model.end_time", "earlier end comes first", ""),
    ("[model]\nend_time = [1.0]\n", "model.end_time", "or a list of 2, each", ""),
    ("[model]\nend_time = 'x'\n", "model.end_time", "given 'x' (a string); allowed", ""),
    # unknown names
    (
        "[solver]\nalgorithm = 'RK4'\n",
        "solver.algorithm",
        "given 'RK4'; allowed: one of euler",
        "rk4",
    ),
    ("[solver]\nalgorithm = 'dopri6'\n", "solver.algorithm", "tsit5, dopri8", "dopri"),
    ("[solver]\nalgorithm = 'qqq'\n", "solver.algorithm", "given 'qqq'; allowed: one of", ""),
    ("[solver]\nalgorithm = 4\n", "solver.algorithm", "given 4; allowed: one of euler", ""),
    ("[divergence]\nnoise = 'gausian'\n", "divergence.noise", "gaussian, rademacher", "gaussian"),
    ("[model]\nscales = 'Auto'\n", "model.scales", "given 'Auto'; allowed: \"auto\"", "auto"),
    ("[train]\nprecision = 'bf16'\n", "train.precision", "given 'bf16'", "bf16-true"),
    # keys that exclude each other
    (
        "[solver]\nalgorithm = 'dopri5'\nstep = 0.1\nrtol = 1e-3\natol = 1e-3\n",
        "solver.step",
        "steps are fixed or adaptive, not both: drop step, or drop rtol, atol; given 0.1",
        "",
    ),
    (
        "[solver]\nalgorithm = 'euler'\n",
        "solver.algorithm",
        "euler has no error estimate and takes fixed steps only: add step, such as step = 0.25",
        "",
    ),
    (
        "[solver.eval]\nalgorithm = 'heun'\nstep = 1\nnorm = 'max'\n",
        "solver.eval.algorithm",
        "heun has no error estimate and takes fixed steps only: drop norm; given 'heun'",
        "",
    ),
    (
        "[solver]\nalgorithm = 'tsit5'\nnorm = 'max'\nper_sample = true\n",
        "solver.norm",
        "with per_sample each sample has an error of its own: drop norm; given 'max'",
        "",
    ),
    (
        "[solver]\nsensitivity = 'backsolve'\n[solver.eval]\nper_sample = true\n",
        "solver.sensitivity",
        "write one of discrete, checkpointed, or drop per_sample; given 'backsolve'",
        "",
    ),
    (
        "[solver]\nalgorithm = 'tsit5'\nper_sample = true\ncheckpoint_every = 2\n",
        "solver.checkpoint_every",
        "with per_sample the state of every step is stored: drop checkpoint_every; given 2",
        "",
    ),
    (
        "[solver]\nrtol = 1e-3\n",
        "solver.algorithm",
        "add step, such as step = 0.25 and drop rtol",
        "",
    ),
    (
        "[solver]\nsensitivity = 'discrete'\ncheckpoint_every = 2\n",
        "solver.checkpoint_every",
        'discrete stores no checkpoints: drop it, or say sensitivity = "checkpointed"; given 2',
        "",
    ),
    (
        "[divergence]\nestimator = 'exact'\nprobes = 2\n",
        "divergence.probes",
        "the exact divergence draws no random probes: drop it",
        "",
    ),
    ("channels = 3\n", "data.channels", "digits has its own: drop it", ""),
    (
        "[model]\nscales = 'auto'\n[[model.scale]]\n",
        "model.scales",
        'scales = "auto" and [[model.scale]] both say what the scales are: drop one',
        "",
    ),
    ("[model]\nblocks = 3\n[[model.scale]]\n", "model.blocks", "blocks of its own", ""),
    (
        "[[model.scale]]\nsplit = true\n[[model.scale]]\nsplit = true\n",
        "model.scale.1.split",
        "the last scale has none after it",
        "",
    ),
    (
        "[[model.scale]]\nblocks_after = 1\n",
        "model.scale.0.blocks_after",
        "drop it, or say squeeze = true; given 1",
        "",
    ),
    (
        "[train]\nschedule = 'cosine'\nmax_minutes = 1\n",
        "train.schedule",
        "add epochs or max_steps",
        "",
    ),
    # a scale's own table, once completed
    (
        "[solver]\nalgorithm = 'dopri5'\n[[model.scale]]\nsolver = {step = 0.1, rtol = 1e-3}\n",
        "model.scale.0.solver.step",
        "steps are fixed or adaptive, not both",
        "",
    ),
    ("[[model.scale]]\nfield = 3\n", "model.scale.0.field", "given 3; allowed: a table", ""),
]


@pytest.mark.parametrize(("text", "key", "says", "suggestion"), WRONG)
def test_a_wrong_recipe_is_told_in_one_line(write, text, key, says, suggestion):
    error = message_of(write(START + text))
    assert len(error.problems) == 1, str(error)
    assert (error.file, error.key) == ("my.toml", key)
    assert str(error).startswith(f"my.toml: {key}: ")
    assert says in str(error)
    assert "\n" not in str(error)
    assert error.suggestion.startswith(suggestion)
    assert bool(error.suggestion) is bool(suggestion)
    assert "Input should" not in str(error)
    if suggestion:
        assert str(error).endswith(f"did you mean {error.suggestion}?")


@pytest.mark.parametrize(
    ("text", "key"),
    [('[data]\ndataset = "moons"\n', "name"), ('name = "x"\n[data]\n', "data.dataset")],
)
def test_a_missing_key_is_named(write, text, key):
    assert str(message_of(write(text))).startswith(
        f"my.toml: {key}: this key is required; allowed:"
    )


def test_an_unknown_data_set_lists_the_known_ones(write):
    error = message_of(write('name = "x"\n[data]\ndataset = "mnits"\n'))
    assert (error.key, error.given, error.suggestion) == ("data.dataset", "'mnits'", "mnist")
    assert error.allowed.startswith("one of digits, moons, pinwheel")


def test_every_mistake_is_told(write):
    text = "batch_size = 0\n[solver]\nstep = -1\n[train]\nepoch = 3\n"
    lines = str(message_of(write(START + text))).splitlines()
    assert lines[0] == "the recipe has 3 mistakes:"
    assert [line.split(": ")[1] for line in lines[1:]] == [
        "data.batch_size",
        "solver.step",
        "train.epoch",
    ]


def test_a_mistake_that_scales_inherit_is_told_once(write):
    text = "[solver]\nstep = -1\n[[model.scale]]\nsolver = {sensitivity = 'discrete'}\n"
    error = message_of(write(START + text))
    assert [problem.key for problem in error.problems] == ["solver.step"]


def test_a_long_value_is_shortened(write):
    error = message_of(write(f"{START}batch_size = '{'a' * 500}'\n"))
    assert len(error.given) < 80


class TestFiles:
    @pytest.mark.usefixtures("packaged")
    def test_a_missing_recipe(self):
        error = message_of("quikstart")
        assert str(error) == (
            "quikstart: no such recipe file or name; allowed: a path to a .toml file, or a name "
            "that `rnode-dyn recipes` lists; did you mean quickstart?"
        )

    @pytest.mark.parametrize("wanted", ["recipes/quickstar.toml", "/nowhere/quickstart.toml"])
    @pytest.mark.usefixtures("packaged")
    def test_a_missing_path(self, wanted):
        error = message_of(wanted)
        assert (error.file, error.suggestion) == (wanted, "quickstart")

    @pytest.mark.usefixtures("packaged")
    def test_the_last_part_of_a_name(self):
        assert message_of("none").suggestion == "ablation/none"

    @pytest.mark.usefixtures("packaged")
    def test_a_folder(self):
        assert str(message_of("packaged")).startswith("packaged: a folder, not a recipe file")

    @pytest.mark.usefixtures("packaged")
    def test_extends_to_a_missing_file(self, write):
        error = message_of(write('extends = "quickstrat"\n', "sub/my.toml"))
        assert str(error).startswith(
            "sub/my.toml: extends: no such recipe file or name; given 'quickstrat'"
        )
        assert error.suggestion == "quickstart"

    @pytest.mark.parametrize("extends", ["3", "['a.toml']", "true"])
    def test_extends_of_a_wrong_type(self, write, extends):
        error = message_of(write(f"extends = {extends}\n"))
        assert (error.key, error.allowed) == (
            "extends",
            "the path of a recipe file, or a recipe's name",
        )

    def test_a_circle(self, write):
        write('extends = "b.toml"\n', "a.toml")
        write('extends = "a.toml"\n', "b.toml")
        assert str(message_of("a.toml")) == (
            "b.toml: extends: the recipes extend each other in a circle, "
            "a.toml → b.toml → a.toml: drop one extends"
        )

    def test_broken_toml(self, write):
        assert str(message_of(write('name = "x"\nseed 3\n'))) == (
            "my.toml: line 2, column 6: not TOML: Expected '=' after a key in a key/value pair"
        )

    def test_toml_that_ends_too_soon(self, write):
        assert "my.toml: end of document: not TOML: " in str(message_of(write('name = "x')))

    @pytest.mark.parametrize(
        ("value", "says"),
        [("[" * 5000 + "]" * 5000, "nested too deeply"), ("9" * 5000, "not TOML: Exceeds")],
    )
    def test_toml_beyond_what_python_reads(self, write, value, says):
        assert says in str(message_of(write(f"seed = {value}\n")))

    def test_a_name_that_no_file_can_have(self):
        assert "no such recipe file or name" in str(message_of("x" * 5000))

    def test_not_utf_8(self, write):
        error = message_of(write(b'name = "x"\ntitle = "\xff"\n'))
        assert str(error) == "my.toml: line 2: not UTF-8 text: save it as UTF-8"

    def test_a_file_that_may_not_be_read(self, write, monkeypatch):
        path = write(START)

        def refuse(self):
            raise PermissionError(errno.EACCES, "Permission denied")

        # Not chmod: root reads everything.
        monkeypatch.setattr(Path, "read_bytes", refuse)
        assert "cannot be read: Permission denied" in str(message_of(path))


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "key", "says"),
        [
            ("data.batchsize=3", "data.batchsize", "unknown key; given 3"),
            ("data.batch_size=many", "data.batch_size", "given 'many' (a string)"),
            ("data=moons", "data", "given 'moons' (a string); allowed: a table with the keys"),
            ("extends=other.toml", "extends", "unknown key"),
            ("solver.algorithm=rk5", "solver.algorithm", "given 'rk5'"),
            ("seed.x=3", "seed", "given a table; allowed: a whole number"),
            ("model.scale.2.blocks=1", "model.scale.2.blocks", "allowed: an index from 0 to 1"),
            ("model.scale.x.blocks=1", "model.scale", "given a table; allowed: a list"),
            ("samples.0.count=1", "samples.0.count", "samples has no entries"),
            ("seed=" + "9" * 5000, "seed", "(a string); allowed: a whole number"),
            ("seed=" + "[" * 5000, "seed", "(a string); allowed: a whole number"),
            ("model.scale.0.blocks=0", "model.scale.0.blocks", "given 0"),
        ],
    )
    def test_a_wrong_override_is_named_as_typed(self, write, override, key, says):
        path = write(START + "[[model.scale]]\n[[model.scale]]\n")
        error = message_of(path, [override])
        assert str(error).startswith(f"--set {override}: {key}: ")
        assert says in str(error)

    def test_a_right_override_is_not_blamed(self, write):
        error = message_of(write(START + "batchsize = 1\n"), ["data.batch_size=3"])
        assert error.file == "my.toml"

    def test_a_missing_key_is_not_blamed_on_an_override(self, write):
        error = message_of(write('name = "x"\n[data]\n'), ["data.batch_size=3"])
        assert (error.file, error.key) == ("my.toml", "data.dataset")

    def test_a_mistake_in_an_extended_file_names_that_file(self, write):
        write(START + "[train]\nepochs = 0\n", "base.toml")
        error = message_of(write('extends = "base.toml"\n[train]\nnodes = 2\n'))
        assert error.file == "base.toml"

    def test_overrides_that_exclude_each_other(self, write):
        path = write(START + "[solver]\nalgorithm = 'dopri5'\n")
        error = message_of(path, ["solver.step=0.1", "solver.rtol=1e-3"])
        assert str(error).startswith(
            "--set solver.step=0.1: solver.step: steps are fixed or adaptive"
        )

    @pytest.mark.parametrize("override", ["epochs", "=5", "a..b=3", "", ".=1"])
    def test_what_is_no_override(self, write, override):
        assert str(message_of(write(START), [override])) == (
            f"--set {override}: not an override; allowed: a dotted key, = and a value, "
            "such as train.epochs=5"
        )


def test_the_error_can_be_sent_between_processes():
    error = RecipeError(Problem("a.toml", "seed", "wrong"), Problem("b.toml"))
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
