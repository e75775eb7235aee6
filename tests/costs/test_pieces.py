"""The choice of pieces: what fits, what is fastest, and what `show` says of it."""

import json

import pytest
import torch
from typer.testing import CliRunner

from rnode_dyn import BacksolveAdjoint, DiscreteAdjoint, MultiscaleFlow, build_model, load_recipe
from rnode_dyn.cli import app
from rnode_dyn.costs import pieces
from rnode_dyn.costs.cost import training_cost
from rnode_dyn.costs.memory import available_bytes
from rnode_dyn.costs.pieces import (
    Pieces,
    choose_pieces,
    differentiate_by,
    differentiated_by,
    given_pieces,
)
from rnode_dyn.recipe.build import governed_blocks

CPU = torch.device("cpu")
GB = 10**9


@pytest.fixture(scope="module")
def mnist() -> MultiscaleFlow:
    return build_model(load_recipe("mnist"))


def with_memory(available: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "available_bytes", lambda device: available)


@pytest.mark.parametrize(
    ("available", "wanted"),
    [
        (None, (8, "discrete")),
        (100 * GB, (8, "discrete")),  # a CPU gains nothing from more
        (2 * GB, (5, "discrete")),
        (GB // 2, (20, "checkpointed")),  # one graph at a time is slower than checkpoints
        (GB // 20, (2, "checkpointed")),
    ],
)
def test_less_memory_makes_smaller_pieces_and_then_checkpoints(
    available: int | None,
    wanted: tuple[int, str],
    mnist: MultiscaleFlow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_memory(available, monkeypatch)
    chosen = choose_pieces(mnist, 200, CPU)
    assert (chosen.size, chosen.way, chosen.fits) == (*wanted, True)
    assert 200 % chosen.size == 0
    if available is not None:
        assert chosen.bytes <= available / 2


def test_where_nothing_fits_it_is_the_least_and_said_so(
    mnist: MultiscaleFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_memory(10**6, monkeypatch)
    chosen = choose_pieces(mnist, 200, CPU)
    assert (chosen.size, chosen.way, chosen.fits) == (1, "checkpointed", False)
    assert chosen.in_words().endswith(": that is too little")


def test_a_gpu_takes_what_fits(mnist: MultiscaleFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    with_memory(80 * GB, monkeypatch)
    chosen = choose_pieces(mnist, 200, torch.device("cuda"))
    assert (chosen.size, chosen.way) == (200, "discrete")


def test_the_prediction_is_the_cost_of_what_is_chosen(mnist: MultiscaleFlow) -> None:
    chosen = choose_pieces(mnist, 200, torch.device("meta"))
    with differentiated_by(mnist, DiscreteAdjoint()):
        assert chosen.bytes == pytest.approx(training_cost(mnist, chosen.size).bytes, rel=1e-3)
    given = given_pieces(mnist, 200, 20, torch.device("meta"))
    assert given == Pieces(200, 20, None, given.bytes, None)
    assert given.bytes == pytest.approx(training_cost(mnist, 20).bytes, rel=1e-3)


def test_steps_that_nobody_knows_must_have_room(mnist: MultiscaleFlow) -> None:
    """Of adaptive and governed solves, four times the assumed steps."""
    recipe = load_recipe("mnist-warm")
    model = build_model(recipe)
    known = choose_pieces(model, 200, torch.device("meta"))
    governed = choose_pieces(model, 200, torch.device("meta"), governed_blocks(recipe, model))
    assert governed.bytes / governed.size == pytest.approx(4 * known.bytes / known.size, rel=0.01)
    assert governed.size < known.size


def test_a_field_of_many_layers_goes_through_in_large_pieces() -> None:
    """Each layer of each call costs time beside its operations: checkpoints are worth theirs."""
    recipe = load_recipe("mnist-unet")
    model = build_model(recipe)
    chosen = choose_pieces(model, 16, torch.device("meta"), governed_blocks(recipe, model))
    assert (chosen.size, chosen.way) == (16, "checkpointed")


def test_another_sensitivity_than_the_exact_ones_stays() -> None:
    model = build_model(load_recipe("quickstart"))
    for block in model.blocks:
        block.solver = block.solver.__class__(
            block.solver.algorithm, block.solver.stepping, BacksolveAdjoint()
        )
    chosen = choose_pieces(model, 64, CPU)
    assert chosen.way is None
    differentiate_by(model, chosen.way)
    assert all(block.solver.sensitivity == BacksolveAdjoint() for block in model.blocks)


def test_double_precision_takes_twice_the_memory() -> None:
    model = build_model(load_recipe("mnist"))
    single = given_pieces(model, 200, 4, CPU)
    assert given_pieces(model.double(), 200, 4, CPU).bytes == 2 * single.bytes
    assert choose_pieces(model, 200, torch.device("meta")).size == 4


def test_choosing_leaves_the_model(mnist: MultiscaleFlow) -> None:
    before = [block.solver for block in mnist.blocks]
    choose_pieces(mnist, 200, CPU)
    assert [block.solver for block in mnist.blocks] == before


def test_the_machine_says_what_memory_it_has() -> None:
    there = available_bytes(CPU)
    assert there is None or 10**7 < there < 10**15


def shown(*arguments: object):
    call = ["show", *map(str, arguments)]
    return CliRunner().invoke(app, call, catch_exceptions=False)


def test_show_prints_what_it_will_choose() -> None:
    text = " ".join(shown("mnist").stdout.split())
    chosen = json.loads(shown("mnist", "--json").stdout)["micro_batch"]
    assert f"micro-batch: {chosen['size']} of 200 samples at a time, {chosen['way']}: " in text
    assert "GB for the gradient" in text
    assert json.loads(shown("quickstart", "--json").stdout)["micro_batch"] is None
    given = json.loads(shown("mnist", "--set", "train.micro_batch=4", "--json").stdout)
    assert (given["micro_batch"]["size"], given["micro_batch"]["way"]) == (4, None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["train.micro_batch=7"], "a batch of 200 is not made up of such pieces: say 5"),
        (["train.micro_batch=400"], "a batch of 200 is not made up of such pieces: say 200"),
        (["train.micro_batch=0"], 'given 0; allowed: a whole number of at least 1 or "auto"'),
        (["train.precision=16-mixed"], "scaled gradients are not computed in pieces"),
        (['train.stage=[{objective="flow-matching"}]'], "no stage solves the flow: drop it"),
    ],
)
def test_pieces_that_cannot_be_are_refused_by_name(options: list[str], said: str) -> None:
    result = shown("mnist", *(word for option in options for word in ("--set", option)))
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
