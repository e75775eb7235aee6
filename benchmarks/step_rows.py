"""What `benchmarks/steps.py` compares: rows, each ours and the textbook's with the same weights."""

from collections.abc import Callable
from dataclasses import replace

import torch
from comparison import TOLERANCE, Outcome, Pair, Row
from other_flows import Other, against, torchdyns, zukos
from textbook import TextbookBlock, TextbookFlow, joined
from torch import Tensor, nn

from rnode_dyn import (
    RK38,
    AdaptiveStep,
    CheckpointedAdjoint,
    ConvField,
    DiscreteAdjoint,
    Dopri5,
    FixedStep,
    JacobianFrobenius,
    KineticEnergy,
    Likelihood,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Sensitivity,
    Solver,
    build_model,
    load_recipe,
)
from rnode_dyn.costs.pieces import choose_pieces, differentiate_by
from rnode_dyn.data import Event
from rnode_dyn.flows.distribution import standard_normal_log_prob
from rnode_dyn.flows.layout import lay_out
from rnode_dyn.recipe.build import describe_event
from rnode_dyn.training.loop.pieces import loss_in_pieces

CPU = torch.device("cpu")
FIXED = {"method": "rk4", "options": {"step_size": 0.25}}
ADAPTIVE = {"method": "dopri5", "rtol": TOLERANCE, "atol": TOLERANCE}
QUARTERS = FixedStep(0.25)
PENALTIES = (KineticEnergy(0.01), JacobianFrobenius(0.01))


def one_block(field: Callable[[], nn.Module], solver: Solver, *shape: int) -> MultiscaleFlow:
    """Return a flow of one block with both penalties."""
    return MultiscaleFlow(shape, [Scale([RegularizedFlow(field(), solver, None, PENALTIES)])])


def randomize(model: nn.Module, dtype: torch.dtype, std: float) -> None:
    """Draw all weights: a flow that is the identity would take no steps."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=std)
    model.to(dtype).train()
    lay_out(model, CPU)


def training(
    make: Callable[[], MultiscaleFlow], std: float, theirs: dict, event: Event, condition: int = 0
) -> Callable:
    """Return how a training step is built: the loss and its gradient.

    Conditions, if any, are vectors of so many numbers. In double precision the textbook
    differentiates through its steps: only that is the gradient of what was computed, as ours is,
    and the adjoint is as far from it as the steps are long.
    """

    def build(dtype: torch.dtype, batch: int) -> Pair:
        model = make()
        randomize(model, dtype, std)
        pieces = choose_pieces(model, batch, CPU)
        differentiate_by(model, pieces.way if event.levels is not None else None)
        size = pieces.size if event.levels is not None else batch
        twin = TextbookFlow(model, adjoint=dtype == torch.float32, **theirs).to(dtype)
        u = torch.rand(batch, *event.shape, dtype=dtype)
        given = torch.randn(batch, condition, dtype=dtype) if condition else None
        return Pair(
            lambda: our_step(model, u, event, size, given),
            lambda: textbook_step(twin, u, event, given),
        )

    return build


def our_step(
    model: MultiscaleFlow, u: Tensor, event: Event, size: int, condition: Tensor | None = None
) -> Outcome:
    """Take a step of ours, in pieces of so many samples."""
    torch.manual_seed(1)
    model.zero_grad()
    whole = size >= len(u)
    if whole:
        loss = Likelihood().loss(model, u, event, condition)
    else:
        loss = loss_in_pieces(Likelihood(), model, u, event, size)
    loss.value.backward()
    layers = [layer for block in model.blocks for layer in block.field.layers]  # type: ignore[union-attr]
    gradients = [part for layer in layers for part in joined(layer, gradient=True)]
    pieces = -(-len(u) // size)
    stats = [block.stats for block in model.blocks]
    evaluations = pieces * sum(s.nfe + s.nfe_backward for s in stats)
    products = evaluations + pieces * sum(s.nvjp for s in stats)
    return Outcome([loss.value.detach(), *gradients], evaluations, products)


def textbook_step(
    twin: TextbookFlow, u: Tensor, event: Event, condition: Tensor | None = None
) -> Outcome:
    """Take the textbook's step."""
    torch.manual_seed(1)
    twin.zero_grad()
    before = twin.evaluations
    z, log_det, weighted = twin(u, condition)
    nats = -(standard_normal_log_prob(z) + log_det)
    per_bit = event.dims * torch.log(torch.tensor(2.0, dtype=u.dtype))
    levels = 0.0 if event.levels is None else torch.log2(torch.tensor(float(event.levels)))
    loss = (nats / per_bit + levels).mean() + weighted.mean()
    forward = twin.evaluations - before
    loss.backward()
    gradients = [p.grad for p in twin.parameters() if p.grad is not None]
    evaluations = twin.evaluations - before
    # The adjoint pulls back each evaluation of its own; without it autograd does all of them.
    pulled_back = evaluations - forward or forward
    return Outcome([loss.detach(), *gradients], evaluations, evaluations + pulled_back)


def without_gradient(
    task: str, field: Callable[[], nn.Module], std: float, *shape: int
) -> Callable:
    """Return how evaluation, sampling or a bare solve is built, adaptive at 1e-5."""

    def build(dtype: torch.dtype, batch: int) -> Pair:
        tolerance = TOLERANCE if dtype == torch.float32 else 1e-9
        solver = Solver(Dopri5(), AdaptiveStep(tolerance, tolerance))
        flow = RegularizedFlow(field(), solver, None, PENALTIES)
        randomize(flow, dtype, std)
        options = {**ADAPTIVE, "rtol": tolerance, "atol": tolerance}
        twin = TextbookBlock(flow, **options).to(dtype)
        x = torch.randn(batch, *shape, dtype=dtype)

        def ours() -> Outcome:
            torch.manual_seed(1)
            with torch.no_grad():
                values = list(flow(x)[:2]) if task == "evaluate" else [flow.generate(x)]
            return Outcome(values, flow.stats.nfe)

        def textbook() -> Outcome:
            torch.manual_seed(1)
            before = twin.field.evaluations
            with torch.no_grad():
                values = list(twin(x)[:2]) if task == "evaluate" else [twin.generate(x)]
            return Outcome(values, twin.field.evaluations - before)

        return Pair(ours, textbook)

    return build


def block_row(channels: int, side: int, sensitivity: Sensitivity, batch: int) -> Row:
    """Return a row of one convolutional block."""
    solver, shape = Solver(RK38(), QUARTERS, sensitivity), (channels, side, side)
    name = f"{channels}×{side}×{side} block, {sensitivity}, batch {batch}"
    make = lambda: one_block(lambda: ConvField(channels), solver, *shape)  # noqa: E731
    return Row(name, training(make, 0.03, FIXED, Event(shape)), batch)


def mlp_row(
    batch: int,
    dimension: int = 64,
    widths: tuple[int, ...] = (128, 128),
    std: float = 0.1,
    condition: int = 0,
) -> Row:
    """Return a row of a multilayer perceptron on vectors."""
    solver = Solver(RK38(), QUARTERS, DiscreteAdjoint())
    field = lambda: MLPField(dimension, widths, condition=condition or None)  # noqa: E731
    make = lambda: one_block(field, solver, dimension)  # noqa: E731
    given = f", {condition} numbers of a condition" if condition else ""
    build = training(make, std, FIXED, Event((dimension,)), condition)
    return Row(f"MLP {dimension}-D{given}, batch {batch}", build, batch)


def recipe_row(name: str, batch: int, long: bool) -> Row:
    """Return a row of a recipe's whole model, as it ships: in pieces, with what they choose."""
    recipe = load_recipe(name)
    event = describe_event(recipe)
    fixed = recipe.solver.step is not None
    theirs = FIXED if fixed else {**ADAPTIVE, "options": {"first_step": 1 / 6}}
    build = training(lambda: build_model(recipe), 0.03, theirs, event)
    row = Row(f"{name} recipe, batch {batch}", build, batch, long=long)
    # Adaptive steps are not the same on either side, nor at which tolerance they agree.
    return row if fixed else replace(row, agreement=1e-3)


def vector_row(name: str, make: Callable[[torch.dtype, float], Other]) -> Row:
    """Return a row against another package's flow on vectors."""
    title = f"8-D against {name}, exact trace, dopri5 at 1e-5, batch 256"
    return Row(title, against(make), 256, 1e-5, other=name)


EVALUATION = without_gradient("evaluate", lambda: ConvField(1), 0.05, 1, 28, 28)
SAMPLING = without_gradient("sample", lambda: ConvField(1), 0.05, 1, 28, 28)
PLANE = without_gradient("sample", lambda: MLPField(2, (32, 32)), 0.5, 2)

ROWS = [
    block_row(1, 28, DiscreteAdjoint(), 8),
    block_row(1, 28, CheckpointedAdjoint(), 8),
    block_row(3, 32, DiscreteAdjoint(), 8),
    mlp_row(32),
    mlp_row(256),
    mlp_row(2048),
    mlp_row(256, condition=16),
    recipe_row("mnist", 8, long=False),
    recipe_row("mnist", 200, long=True),
    recipe_row("cifar10", 4, long=True),
    recipe_row("celeba64", 2, long=True),
    Row("1×28×28 evaluation, dopri5 at 1e-5, batch 8", EVALUATION, 8, 1e-6),
    Row("1×28×28 sampling, dopri5 at 1e-5, batch 8", SAMPLING, 8, 1e-6),
    vector_row("zuko", zukos),
    vector_row("torchdyn", torchdyns),
    Row("2-D solve, dopri5 at 1e-5, batch 256", PLANE, 256, 1e-6),
]
