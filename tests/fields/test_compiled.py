"""A compiled field trains as the field does, and is itself again afterwards."""

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import (
    RK4,
    CheckpointedAdjoint,
    DiscreteAdjoint,
    FixedStep,
    FlowMatching,
    JacobianFrobenius,
    Likelihood,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Solver,
)
from rnode_dyn.data import Event
from rnode_dyn.fields.compiled import compiled_calls, compiled_products, product_of
from rnode_dyn.recipe.errors import RecipeError
from rnode_dyn.recipe.load import load_recipe

# What inductor would be handed, run as it is: compiling to machine code takes half a minute.
TRACED = {"backend": "aot_eager"}
DIM = 3
EVENT = Event((DIM,))


def flow(sensitivity) -> MultiscaleFlow:
    torch.manual_seed(0)
    solver = Solver(RK4(), FixedStep(0.5), sensitivity)
    block = RegularizedFlow(MLPField(DIM, (4,)), solver, regularizers=[JacobianFrobenius(0.1)])
    made = MultiscaleFlow((DIM,), [Scale([block])])
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made.double()


def gradient(loss: Tensor, model: nn.Module) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*model.parameters()])])


def likelihood(model: MultiscaleFlow) -> Tensor:
    torch.manual_seed(1)
    return Likelihood().loss(model, torch.randn(2, DIM, dtype=torch.float64), EVENT).value


def matching(model: MultiscaleFlow) -> Tensor:
    torch.manual_seed(1)
    x = torch.randn(2, DIM, dtype=torch.float64)
    return FlowMatching().loss(model, x, EVENT).value


@pytest.mark.parametrize(
    ("loss", "compiled"), [(likelihood, compiled_products), (matching, compiled_calls)]
)
@pytest.mark.parametrize("sensitivity", [DiscreteAdjoint(), CheckpointedAdjoint()], ids=str)
def test_gradients_are_those_of_the_field_as_it_is(loss, compiled, sensitivity) -> None:
    model = flow(sensitivity)
    expected = gradient(loss(model), model)
    with compiled([block.field for block in model.blocks], **TRACED):
        found = gradient(loss(model), model)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_field_is_itself_again_afterwards() -> None:
    field = MLPField(DIM, (4,))
    with compiled_products([field], **TRACED), compiled_calls([field], **TRACED):
        assert product_of(field, "value_and_vjp") != field.value_and_vjp
        assert field._compiled_call_impl is not None
    assert product_of(field, "value_and_vjp") == field.value_and_vjp
    assert field._compiled_call_impl is None


@pytest.mark.parametrize(
    ("sets", "why"),
    [
        (["regularizers.directional_derivative=0.1"], "differentiates the field by autograd"),
        (['model.field={kind="unet", width=8, levels=1}'], "a U-Net's products are autograd's"),
    ],
)
def test_what_cannot_be_compiled_is_refused_by_name(sets: list[str], why: str) -> None:
    with pytest.raises(RecipeError, match=why) as refused:
        load_recipe("mnist14", ["train.compile=true", *sets])
    assert "train.compile" in str(refused.value)
