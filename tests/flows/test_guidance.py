"""Guidance: a field beyond its condition in closed form, labels left out, and what is refused."""

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    Augmented,
    ConditionEmbedding,
    FixedStep,
    FlowDistribution,
    FlowMatching,
    GuidedFlow,
    Likelihood,
    MLPField,
    MultiscaleFlow,
    Reflow,
    RegularizedFlow,
    Scale,
    Solver,
    UNetField,
)
from rnode_dyn.fields.condition import NO_CLASS
from rnode_dyn.fields.guided import GuidedField
from rnode_dyn.flows.share import Share, sharing
from rnode_dyn.training.objectives.base import with_labels_left_out


class Shifting(nn.Module):
    """f(t, x, c) = a shift of its own for every class, and for none: (c + 1)²."""

    def __init__(self, label_dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding = ConditionEmbedding(classes=3, width=1, label_dropout=label_dropout)

    def forward(self, t: Tensor, x: Tensor, condition: Tensor) -> Tensor:
        return torch.zeros_like(x) + (condition[:, None] + 3.0) ** 2


def flow_of(*fields: nn.Module) -> MultiscaleFlow:
    blocks = [RegularizedFlow(field, Solver(RK4(), FixedStep(0.5))) for field in fields]
    return MultiscaleFlow((2,), [Scale(blocks)])


def moved(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_samples_go_as_far_beyond_as_the_scale_says(scale: float) -> None:
    z, labels = torch.zeros(3, 2), torch.tensor([0, 1, 2])
    free, given = torch.tensor(4.0), (labels + 3.0) ** 2
    expected = -2 * (free + scale * (given - free))  # two blocks, both undone
    drawn = GuidedFlow(flow_of(Shifting(), Shifting()), scale).generate(z, labels)
    torch.testing.assert_close(drawn, expected[:, None].expand(3, 2))


@pytest.mark.parametrize("kind", ["mlp", "unet"])
def test_a_scale_of_one_changes_nothing_and_none_forgets_the_class(kind: str) -> None:
    field = MLPField(16, (8,), classes=3, label_dropout=0.2)
    if kind == "unet":
        field = UNetField(1, 8, 2, classes=3, label_dropout=0.2)
    shape = (16,) if kind == "mlp" else (1, 4, 4)
    block = RegularizedFlow(moved(field), Solver(RK4(), FixedStep(0.5)))
    flow, z = MultiscaleFlow(shape, [Scale([block])]), torch.randn(3, 16)
    labels, nothing = torch.tensor([0, 1, 2]), torch.full((3,), NO_CLASS)
    torch.testing.assert_close(GuidedFlow(flow, 1.0).generate(z, labels), flow.generate(z, labels))
    torch.testing.assert_close(GuidedFlow(flow, 0.0).generate(z, labels), flow.generate(z, nothing))
    assert not torch.allclose(flow.generate(z, labels), flow.generate(z, nothing))


def test_weights_are_shared_and_the_flow_stays_as_it_is() -> None:
    flow = flow_of(MLPField(2, (4,), classes=3, label_dropout=0.1)).eval()
    guided = GuidedFlow(flow, 2.0)
    assert {id(p) for p in guided.parameters()} == {id(p) for p in flow.parameters()}
    assert isinstance(flow.blocks[0].field, MLPField)
    assert not guided.blocks[0].training


def test_densities_are_refused() -> None:
    guided = GuidedFlow(flow_of(Shifting()), 2.0)
    x, labels = torch.zeros(3, 2), torch.tensor([0, 1, 2])
    distribution = FlowDistribution(guided, (2,)).given(labels)
    for ask in (
        lambda: guided(x, labels),
        lambda: guided.inverse(x, labels),
        lambda: distribution.log_prob(x),
        lambda: Likelihood().loss(guided, x, condition=labels),
        lambda: FlowMatching().loss(guided, x, condition=labels),
        lambda: Reflow(teacher=guided),
    ):
        with pytest.raises(ValueError, match="guided by 2 has no log-density"):
            ask()
    assert distribution.sample((4,)).shape == (4, 3, 2)


@pytest.mark.parametrize(
    ("flow", "scale", "message"),
    [
        (flow_of(Shifting(0.0)), 2.0, "built without label_dropout"),
        (flow_of(MLPField(2, condition=3)), 2.0, "built without label_dropout"),
        (flow_of(MLPField(2)), 2.0, "built without label_dropout"),
        (flow_of(Shifting()), -1.0, "scale is -1.0; write 0 or more"),
        (flow_of(Shifting()), float("nan"), "scale is nan"),
        (flow_of(Shifting()), "2", "scale is '2'"),
    ],
)
def test_what_cannot_be_guided_is_refused(flow: MultiscaleFlow, scale: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GuidedFlow(flow, scale)


def test_a_single_block_is_refused_with_what_to_write() -> None:
    with pytest.raises(TypeError, match="write a MultiscaleFlow"):
        GuidedFlow(RegularizedFlow(Shifting()), 2.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"classes": 3, "label_dropout": 1.0}, "write a number from 0 to below 1"),
        ({"classes": 3, "label_dropout": "a"}, "write a number from 0 to below 1"),
        ({"condition": 3, "label_dropout": 0.1}, "conditions are vectors"),
        ({"label_dropout": 0.1}, "write condition=k"),
    ],
)
def test_a_dropout_that_cannot_be_is_refused(kinds: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLPField(2, **kinds)


@pytest.mark.parametrize("label", [-2, 3])
def test_other_labels_are_refused_still(label: int) -> None:
    embedding = ConditionEmbedding(classes=3, label_dropout=0.1)
    assert embedding(torch.tensor([NO_CLASS, 0, 2])).shape == (3, 32)
    with pytest.raises(ValueError, match=rf"label {label}; .* from 0 to 2 \(-1: any class\)"):
        embedding(torch.tensor([label]))
    with pytest.raises(ValueError, match="label -1; this field takes class labels from 0 to 2:"):
        ConditionEmbedding(classes=3)(torch.tensor([NO_CLASS]))


def test_labels_are_left_out_as_often_as_said_and_in_training_alone() -> None:
    flow = flow_of(MLPField(2, classes=3, label_dropout=0.25))
    u, labels = torch.zeros(20_000, 2), torch.ones(20_000, dtype=torch.int64)
    left = with_labels_left_out(flow, u, labels)
    assert left is not None
    assert set(left.tolist()) == {NO_CLASS, 1}
    assert abs(float((left == NO_CLASS).double().mean()) - 0.25) < 5 * 0.0031
    assert with_labels_left_out(flow.eval(), u, labels) is labels
    assert with_labels_left_out(flow_of(MLPField(2, classes=3)), u, labels) is labels


def test_parts_of_a_step_leave_out_the_labels_that_it_would_at_once() -> None:
    flow, labels = flow_of(MLPField(2, classes=3, label_dropout=0.5)), torch.arange(8) % 3
    parts = []
    for start, size, whole in [(0, 8, 8), (0, 4, 8), (4, 4, 8)]:
        torch.manual_seed(7)
        with sharing(Share(start, size, whole, seed=7)):
            rows = slice(start, start + size)
            parts.append(with_labels_left_out(flow, torch.zeros(size, 2), labels[rows]))
    assert torch.equal(parts[0], torch.cat(parts[1:]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32])
def test_labels_of_any_whole_numbers_are_labels(dtype: torch.dtype) -> None:
    field = moved(MLPField(2, (8,), classes=200, label_dropout=0.5))
    x, labels = torch.randn(3, 2), torch.tensor([0, 1, 100])
    guided, t = GuidedField(field, 2.0), torch.tensor(0.5)
    torch.testing.assert_close(guided(t, x, labels.to(dtype)), guided(t, x, labels))
    left = with_labels_left_out(flow_of(field), x.repeat(9, 1), labels.to(dtype).repeat(9))
    assert left is not None
    assert set(left.tolist()) == {NO_CLASS, 0, 1, 100}


def test_a_bound_trains_the_embedding_of_no_class_too() -> None:
    field = moved(MLPField(3, (8,), classes=3, label_dropout=0.5))
    augmented, labels = Augmented(RegularizedFlow(field), extra=1), torch.arange(32) % 3
    Likelihood().loss(augmented, torch.randn(32, 2), condition=labels).value.backward()
    (table,) = field.embedding.layers
    assert table.weight.grad.abs().sum(1).gt(0).all()


@pytest.mark.parametrize("objective", [Likelihood(), FlowMatching(), FlowMatching("minibatch-ot")])
def test_objectives_train_the_embedding_of_no_class(objective: Likelihood | FlowMatching) -> None:
    field = moved(MLPField(2, (8,), classes=3, label_dropout=0.5))
    labels = torch.arange(32) % 3
    objective.loss(flow_of(field), torch.randn(32, 2), condition=labels).value.backward()
    (table,) = field.embedding.layers
    assert table.weight.shape[0] == 4
    assert table.weight.grad.abs().sum(1).gt(0).all()
