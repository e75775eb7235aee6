"""A batch in pieces is the batch: loss, figures, gradient, noise, and who is to blame."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    Divergence,
    Dopri5,
    ExactDivergence,
    FixedStep,
    FlowMatching,
    FlowTraining,
    HutchinsonDivergence,
    JacobianFrobenius,
    KineticEnergy,
    Likelihood,
    MLPField,
    MultiscaleFlow,
    NonFiniteStateError,
    Objective,
    Quadrature,
    RegularizedFlow,
    Regularizer,
    Scale,
    Sensitivity,
    Solver,
    Standardize,
    TrajectoryPolynomial,
    Uniform,
    run,
)
from rnode_dyn.costs.pieces import Pieces
from rnode_dyn.data import Event
from rnode_dyn.flows.end_time import EndTime
from rnode_dyn.running.runner import resume
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.training.loop import piece_choice
from rnode_dyn.training.loop.pieces import loss_in_pieces
from rnode_dyn.training.objectives.base import Loss
from tests.tiny import same_weights, tiny, weights

EVENT = Event((1, 4, 4), levels=None)
BATCH = 6
HALF_STEPS = FixedStep(0.5)


def make_model(
    divergence: Divergence | None = None,
    sensitivity: Sensitivity | None = None,
    solver: Solver | None = None,
    quadratures: tuple[Quadrature | None, Quadrature | None] = (None, None),
    regularizers: Sequence[Regularizer] = (KineticEnergy(0.3), JacobianFrobenius(0.2)),
    end_time: EndTime = 1.0,
) -> MultiscaleFlow:
    """Two scales, a block in each, so that blocks draw one after another."""
    solver = solver or Solver(RK4(), HALF_STEPS, sensitivity or DiscreteAdjoint())

    def block(*shape: int) -> RegularizedFlow:
        flow = RegularizedFlow(
            MLPField(shape, (5,)),
            solver,
            divergence,
            regularizers,
            end_time,
            quadrature=quadratures[0],
            penalty_quadrature=quadratures[1],
        )
        for parameter in flow.parameters():
            nn.init.normal_(parameter, std=0.4)
        return flow

    scales = [Scale([block(1, 4, 4)], squeeze=True, split=True), Scale([block(2, 2, 2)])]
    return MultiscaleFlow((1, 4, 4), scales).double()


@dataclass(frozen=True)
class Outcome:
    loss: Tensor
    figures: dict[str, Tensor]
    gradient: list[Tensor]
    next_number: Tensor


def outcome(
    model: MultiscaleFlow, u: Tensor, size: int | None, condition: Tensor | None = None
) -> Outcome:
    torch.manual_seed(7)
    if size is None:
        loss = Likelihood().loss(model, u, EVENT, condition)
    else:
        loss = loss_in_pieces(Likelihood(), model, u, EVENT, size, condition)
    gradient = list(torch.autograd.grad(loss.value, list(model.parameters())))
    return Outcome(loss.value.detach(), loss.figures, gradient, torch.rand(()))


def batch() -> Tensor:
    return torch.randn(BATCH, 1, 4, 4, dtype=torch.float64)


@pytest.mark.parametrize("size", [1, 2, 4, 6, 100])
@pytest.mark.parametrize("sensitivity", [DiscreteAdjoint(), CheckpointedAdjoint()], ids=str)
@pytest.mark.parametrize(
    "divergence",
    [HutchinsonDivergence(), HutchinsonDivergence("rademacher", probes=2), ExactDivergence()],
    ids=["gaussian", "rademacher", "exact"],
)
def test_pieces_add_up_to_the_whole(
    divergence: Divergence, sensitivity: Sensitivity, size: int
) -> None:
    """With the same noise for the same seed; a last piece of two of six weighs its third."""
    model, u = make_model(divergence, sensitivity), batch()
    whole, pieces = outcome(model, u, None), outcome(model, u, size)
    exactly = {"rtol": 1e-12, "atol": 1e-14}
    torch.testing.assert_close(pieces.loss, whole.loss, **exactly)
    torch.testing.assert_close(pieces.gradient, whole.gradient, **exactly)
    for name, figure in whole.figures.items():
        torch.testing.assert_close(pieces.figures[name].double(), figure.double(), **exactly)
    assert torch.equal(pieces.next_number, whole.next_number)


@pytest.mark.parametrize("nodes_of_penalties", [None, 1])
def test_pieces_have_the_nodes_of_the_whole(nodes_of_penalties: int | None) -> None:
    """In each block those that it would draw without pieces; the model keeps its quadratures."""
    of_penalties = nodes_of_penalties and Quadrature("stratified", nodes_of_penalties)
    quadratures = (Quadrature("stratified", nodes=2), of_penalties)
    model, u = make_model(quadratures=quadratures), batch()
    whole, pieces = outcome(model, u, None), outcome(model, u, 2)
    torch.testing.assert_close(pieces.loss, whole.loss, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(pieces.gradient, whole.gradient, rtol=1e-12, atol=1e-14)
    assert torch.equal(pieces.next_number, whole.next_number)
    assert {(b.quadrature, b.penalty_quadrature) for b in model.blocks} == {quadratures}


def test_pieces_leave_out_the_labels_of_the_whole() -> None:
    field = MLPField((1, 4, 4), (5,), classes=3, label_dropout=0.5)
    flow = RegularizedFlow(field, Solver(RK4(), HALF_STEPS))
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.4)
    model, u = MultiscaleFlow((1, 4, 4), [Scale([flow])]).double(), batch()
    labels = torch.arange(BATCH) % 3
    whole, pieces = outcome(model, u, None, labels), outcome(model, u, 2, labels)
    torch.testing.assert_close(pieces.loss, whole.loss, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(pieces.gradient, whole.gradient, rtol=1e-12, atol=1e-14)
    assert torch.equal(pieces.next_number, whole.next_number)


@pytest.mark.parametrize("weights_of", [torch.float32, torch.bfloat16], ids=str)
def test_pieces_have_the_noise_of_the_whole_where_data_are_more_precise(
    weights_of: torch.dtype,
) -> None:
    """Tables come in 64 bits to be standardised, pixels in 32 to weights of 16."""
    flow = RegularizedFlow(MLPField(2, (5,)), Solver(RK4(), HALF_STEPS))
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.4)
    units = Standardize(torch.full((2,), 1e6), torch.ones(2))
    model = MultiscaleFlow((2,), [Scale([flow])], preprocess=units).to(weights_of)
    u = 1e6 + torch.randn(BATCH, 2, dtype=torch.float64)
    whole, pieces = outcome(model, u, None), outcome(model, u, 4)
    tolerance = 8 * torch.finfo(weights_of).eps
    torch.testing.assert_close(pieces.loss, whole.loss, rtol=tolerance, atol=tolerance)
    assert torch.equal(pieces.next_number, whole.next_number)


def test_pieces_have_the_times_of_the_whole() -> None:
    """One end for the batch, and the same places for a penalty of states; the model keeps both."""
    penalty, end = TrajectoryPolynomial(3.0), Uniform(0.5, 1.5)
    model, u = make_model(regularizers=[penalty], end_time=end), batch()
    whole, pieces = outcome(model, u, None), outcome(model, u, 2)
    torch.testing.assert_close(pieces.loss, whole.loss, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(pieces.gradient, whole.gradient, rtol=1e-12, atol=1e-14)
    assert torch.equal(pieces.next_number, whole.next_number)
    for block in model.blocks:
        assert block.end is end
        assert block.regularizers[0] is penalty


def test_adaptive_pieces_agree_as_far_as_they_are_solved() -> None:
    solver = Solver(Dopri5(), AdaptiveStep(1e-8, 1e-8), CheckpointedAdjoint())
    model, u = make_model(solver=solver), batch()
    whole, pieces = outcome(model, u, None), outcome(model, u, 2)
    torch.testing.assert_close(pieces.gradient, whole.gradient, rtol=1e-4, atol=1e-6)


def test_a_parameter_without_a_gradient_keeps_none() -> None:
    model = make_model()
    model.register_parameter("idle", nn.Parameter(torch.ones(2)))
    loss_in_pieces(Likelihood(), model, batch(), EVENT, 2).value.backward()
    assert model.idle.grad is None
    assert all(p.grad is not None for name, p in model.named_parameters() if name != "idle")


def test_the_gradient_scales_with_what_is_asked_of_it() -> None:
    """As where Lightning accumulates the gradients of several batches."""
    model, u = make_model(), batch()
    single = outcome(model, u, 2).gradient
    torch.manual_seed(7)
    (loss_in_pieces(Likelihood(), model, u, EVENT, 2).value / 4).backward()
    torch.testing.assert_close([p.grad * 4 for p in model.parameters()], single)


def test_without_gradients_there_is_only_the_loss() -> None:
    model, u = make_model(ExactDivergence()), batch()
    with torch.no_grad():
        loss = loss_in_pieces(Likelihood(), model, u, EVENT, 2).value
        torch.testing.assert_close(loss, Likelihood().loss(model, u, EVENT).value)
    assert not loss.requires_grad


def test_a_breakdown_names_the_sample_in_the_batch_and_leaves_the_model() -> None:
    model, u = make_model(), batch()
    before = [block.divergence for block in model.blocks]
    u[3] = float("nan")
    with pytest.raises(NonFiniteStateError, match="worst sample: 3") as raised:
        loss_in_pieces(Likelihood(), model, u, EVENT, 2)
    assert raised.value.worst_sample == 3
    assert [block.divergence for block in model.blocks] == before


class Spread(Objective):
    """No mean over samples: it compares them."""

    def loss(self, model: MultiscaleFlow, u: Tensor, event: Event) -> Loss:
        return Loss(model(u).log_det.std(), {})


@pytest.mark.parametrize("objective", [FlowMatching(), Spread()], ids=["matching", "spread"])
def test_what_is_no_mean_over_samples_is_refused(objective: Objective) -> None:
    with pytest.raises(ValueError, match=f"{type(objective).__name__} does not say.* micro_batch"):
        FlowTraining(make_model(), EVENT, objective, micro_batch=2)


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_pieces_that_are_none_are_refused(size: object) -> None:
    with pytest.raises(ValueError, match=f"micro_batch is {size!r}; write a whole number"):
        FlowTraining(make_model(), EVENT, micro_batch=size)  # type: ignore[arg-type]


def test_what_is_timed_beforehand_is_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def loss(objective: Objective, model: MultiscaleFlow, u: Tensor, event: Event) -> Loss:
        seen.append(len(u))
        return Loss(model(u).log_det.mean(), {})

    monkeypatch.setattr(Likelihood, "loss", loss)
    for size in (2, None):
        FlowTraining(make_model(), EVENT, micro_batch=size).gradient(batch())
    assert seen == [2, BATCH]


def test_a_run_in_pieces_is_the_run(tmp_path: Path) -> None:
    whole = run(tiny(epochs=1, precision="64-true"), tmp_path / "whole")
    pieces = run(tiny(epochs=1, precision="64-true", micro_batch=16), tmp_path / "pieces")
    assert (whole.summary["micro_batch"], pieces.summary["micro_batch"]) == (None, 16)
    got, wanted = weights(pieces.folder), weights(whole.folder)
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, rtol=1e-8, atol=1e-10)


def choose(size: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the choice be this one, whatever memory is there."""
    choices: list[int] = []

    def chosen(model: MultiscaleFlow, batch_size: int, *_: object) -> Pieces:
        choices.append(size)
        return Pieces(batch_size, size, "checkpointed", 0)

    monkeypatch.setattr(piece_choice, "choose_pieces", chosen)
    return choices


def test_the_choice_is_written_down_and_repeats_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(16, monkeypatch)
    auto = run(tiny(epochs=1, micro_batch="auto"), tmp_path / "auto")
    names = ("micro_batch", "micro_batch_sensitivity")
    assert [auto.summary[name] for name in names] == [16, "checkpointed"]
    recipe = tiny(epochs=1, micro_batch=16)
    solver = recipe.solver.model_copy(update={"sensitivity": "checkpointed"})
    given = run(recipe.model_copy(update={"solver": solver}), tmp_path / "given")
    assert same_weights(auto.folder, given.folder)


def test_a_run_that_goes_on_keeps_its_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(16, monkeypatch)
    run(tiny(epochs=1, micro_batch="auto"), tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.recipe.write_text(folder.recipe.read_text().replace("epochs = 1", "epochs = 2"))
    choices = choose(32, monkeypatch)
    assert (resume(folder.path).summary["micro_batch"], choices) == (16, [])


def test_matching_is_not_cut(tmp_path: Path) -> None:
    stages = [{"objective": "flow-matching", "max_steps": 2}, {"max_steps": 2}]
    result = run(tiny(epochs=None, stage=stages, micro_batch=16), tmp_path / "run")
    assert (result.summary["micro_batch"], result.summary["train_steps"]) == (16, 4)
