"""Matching on a flow's own pairs: the pairs, what they make straight, and what is refused."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    ConvField,
    FixedStep,
    FlowMatching,
    KineticEnergy,
    LogitTransform,
    MLPField,
    MultiscaleFlow,
    Recipe,
    RecipeError,
    Reflow,
    RegularizedFlow,
    Scale,
    Solver,
    load_recipe,
    load_run,
    run,
)
from rnode_dyn.runs.weights import load_flow
from tests.tiny import TINY, run_until, same_weights

SOLVER = Solver(RK4(), FixedStep(0.125))


class Turning(nn.Module):
    """dx/dt = a quarter turn a unit of time, about the origin of the plane."""

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return torch.pi / 2 * torch.stack([-x[:, 1], x[:, 0]], dim=1)


def flow_of(*fields: nn.Module) -> MultiscaleFlow:
    blocks = [RegularizedFlow(f, SOLVER, regularizers=[KineticEnergy(0.0)]) for f in fields]
    return MultiscaleFlow((2,), [Scale(blocks)])


@pytest.mark.parametrize("blocks", [1, 2])
def test_noise_is_where_the_teacher_takes_the_data(blocks: int) -> None:
    flow, data = flow_of(*(Turning() for _ in range(blocks))), torch.randn(5, 2)
    found = Reflow(teacher=flow).noise_for(flow, data)
    torch.testing.assert_close(found, flow(data).z, rtol=1e-5, atol=1e-5)
    assert not found.requires_grad


def test_noise_is_found_in_the_layout_of_the_data() -> None:
    """A squeeze between the blocks moves coordinates, and the pairs know which is which."""
    first, second = (RegularizedFlow(ConvField(c, (4,)), SOLVER) for c in (1, 4))
    for block in (first, second):
        for parameter in block.parameters():
            nn.init.normal_(parameter, std=0.3)
    scale = Scale([first], [second], squeeze=True)
    flow, u = MultiscaleFlow((1, 4, 4), [scale], LogitTransform(0.05)), torch.rand(3, 1, 4, 4)
    data = flow.enter(u).z.flatten(1)
    found = Reflow(teacher=flow).noise_for(flow, data)
    (last,) = [station for station in flow.walk() if station.flow is second]
    torch.testing.assert_close(found[:, last.coordinates.flatten()], flow(u).z)


def test_the_loss_regresses_on_the_line_between_a_pair() -> None:
    """A field that is the line's own velocity has none."""
    teacher, data = flow_of(Turning()), torch.randn(6, 2)
    velocity = teacher(data).z - data

    class Line(nn.Module):
        takes_times = True

        def forward(self, t: Tensor, x: Tensor) -> Tensor:
            return velocity

    loss = Reflow(teacher=teacher).loss(flow_of(Line()), data).value
    assert float(loss) < 1e-8
    assert float(FlowMatching().loss(flow_of(Line()), data).value) > 0.1


def test_the_teacher_is_a_copy_that_does_not_train() -> None:
    flow = flow_of(MLPField(2, (8,)))
    objective = Reflow(teacher=flow)
    objective.loss(flow, torch.randn(4, 2)).value.backward()
    assert isinstance(objective.teacher, MultiscaleFlow)
    assert all(p.grad is None and not p.requires_grad for p in objective.teacher.parameters())
    assert all(p.grad is not None for p in flow.parameters())
    assert flow.training


def test_paths_become_straighter() -> None:
    """One quarter turn: what is learned from its pairs takes less energy, to the same ends."""
    torch.manual_seed(0)
    teacher, student = flow_of(Turning()), flow_of(MLPField(2, (32, 32)))
    objective, optimizer = Reflow(teacher=teacher), torch.optim.Adam(student.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        objective.loss(student, torch.randn(128, 2)).value.backward()
        optimizer.step()
    data = torch.randn(200, 2)
    with torch.no_grad():
        ends, curved = student(data), teacher(data)
    assert float((ends.z - curved.z).square().mean().sqrt()) < 0.4
    energies = [float(r.penalties["kinetic_energy"].mean()) for r in (ends, curved)]
    assert energies[0] < 0.9 * energies[1]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Reflow(teacher=3), TypeError, "teacher is a int"),  # type: ignore[arg-type]
        (lambda: Reflow("minibatch-ot", teacher=flow_of(Turning())), ValueError, "leave it out"),
        (lambda: Reflow(teacher=flow_of(Turning()), steps=0), ValueError, "steps is 0"),
        (lambda: Reflow(pace=0.5, teacher=flow_of(Turning())), ValueError, "pace is 0.5"),
    ],
)
def test_what_cannot_be_is_refused(make, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_flow_that_splits_is_refused() -> None:
    blocks = [RegularizedFlow(ConvField(c, (4,))) for c in (1, 2)]
    scales = [Scale(blocks[:1], squeeze=True, split=True), Scale(blocks[1:])]
    flow = MultiscaleFlow((1, 2, 2), scales)
    with pytest.raises(ValueError, match="splits its samples"):
        Reflow(teacher=flow).loss(flow, torch.randn(2, 1, 2, 2))


STAGES = [
    {"objective": "flow-matching", "max_steps": 3, "ema": 0.5},
    {"objective": "flow-matching", "max_steps": 3, "coupling": "reflow"},
]


def recipe_of(stages: list[dict], **tables: object) -> Recipe:
    train = {"stage": stages, "learning_rate": 2e-2}
    return Recipe.model_validate({**TINY, **tables, "train": train})


def test_a_run_matches_again_and_goes_on_as_if_never_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(STAGES)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(recipe, whole)
    run_until(5, recipe, cut, monkeypatch)
    run(recipe, cut, resume=True)
    assert same_weights(whole, cut)
    _, teacher = load_flow(load_run(whole).folder, "stage-0")
    changed = zip(teacher.parameters(), load_run(whole, "last").flow.parameters(), strict=True)
    assert any(not torch.equal(before, after) for before, after in changed)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (lambda: recipe_of(STAGES[1:]), "there is no flow yet that has pairs"),
        (
            lambda: recipe_of(STAGES, model={"scales": "auto", "field": {"kind": "conv"}}),
            "of samples that no scale splits: say scales = 1",
        ),
        (lambda: recipe_of([{"coupling": "reflow"}]), "the likelihood draws no paths"),
    ],
)
def test_recipes_are_refused_by_key(recipe, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe()


def test_the_command_line_names_the_key() -> None:
    stage = '[{"objective" = "flow-matching", "coupling" = "reflow", "max_steps" = 2}]'
    with pytest.raises(RecipeError, match=r"train\.stage\.0\.coupling"):
        load_recipe("moons", [f"train.stage={stage}"])
