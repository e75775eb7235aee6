"""Muon: what it does to matrices, and that it is AdamW to all else."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rnode_dyn import Muon
from rnode_dyn.training.muon import orthogonalized


def network() -> nn.Sequential:
    """Two matrices of one shape, a convolution, and layers that are no matrices."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.Flatten(),
        nn.Linear(16 * 4, 12),
        nn.Linear(12, 12),
        nn.Linear(12, 12),
        nn.Linear(12, 2),
    )


def gradient(model: nn.Module, seed: int = 1) -> None:
    torch.manual_seed(seed)
    model.zero_grad()
    model(torch.randn(8, 1, 2, 2)).square().mean().backward()


@pytest.mark.parametrize("shape", [(8, 8), (8, 72), (72, 8), (3, 16, 40)])
def test_singular_values_become_about_one_and_vectors_stay(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(*shape)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    inside = left.mT @ orthogonalized(matrices) @ right.mT  # diagonal, if the vectors stay
    found = inside.diagonal(dim1=-2, dim2=-1)
    assert (inside - torch.diag_embed(found)).abs().max() < 1e-4
    large = values > 0.02 * values.amax(-1, keepdim=True)
    assert (found[large] > 0.6).all()
    assert (found < 1.3).all()


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
def test_the_size_of_a_gradient_does_not_matter(scale: float) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(8, 20)
    torch.testing.assert_close(orthogonalized(scale * matrix), orthogonalized(matrix))


def test_no_gradient_is_no_step() -> None:
    assert not orthogonalized(torch.zeros(8, 8)).any()


def test_what_is_no_matrix_steps_as_adamw_has_it() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, 3))
    twin = deepcopy(model)
    settings: dict[str, Any] = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}
    ours, theirs = (
        Muon(model.parameters(), **settings),
        torch.optim.AdamW(twin.parameters(), **settings),
    )
    for seed in range(5):
        for one, optimizer in ((model, ours), (twin, theirs)):
            gradient(one, seed)
            optimizer.step()
    for found, expected in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_matrix_moves_against_its_gradient_by_as_much_as_with_adam() -> None:
    """Adam's first step has the rate's size in each entry, and later ones about 0.2 of it."""
    layer = nn.Linear(32, 16, bias=False)
    before = layer.weight.detach().clone()
    optimizer = Muon(layer.parameters(), lr=0.01)
    layer(torch.randn(64, 32)).square().mean().backward()
    optimizer.step()
    moved = layer.weight.detach() - before
    assert layer.weight.grad is not None
    assert (moved * layer.weight.grad).sum() < 0
    assert moved.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.3)


def test_matrices_of_one_shape_step_as_each_alone() -> None:
    model, twin = network(), network()
    together = Muon(model.parameters(), lr=0.01, weight_decay=0.1)
    alone = [Muon([weight], lr=0.01, weight_decay=0.1) for weight in twin.parameters()]
    for seed in range(3):
        gradient(model, seed)
        together.step()
        gradient(twin, seed)
        for optimizer in alone:
            optimizer.step()
    for found, expected in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_it_goes_on_from_its_state_bit_for_bit() -> None:
    model = network()
    optimizer = Muon(model.parameters(), lr=0.01)
    for seed in range(3):
        gradient(model, seed)
        optimizer.step()
    twin = deepcopy(model)
    other = Muon(twin.parameters(), lr=0.5)
    other.load_state_dict(deepcopy(optimizer.state_dict()))
    for one, stepping in ((model, optimizer), (twin, other)):
        gradient(one, 7)
        stepping.step()
    for found, expected in zip(twin.parameters(), model.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_weights_without_a_gradient_stay_and_a_closure_is_called() -> None:
    model = network()
    for parameter in model[2].parameters():
        parameter.requires_grad_(False)
    kept = model[2].weight.detach().clone()

    def closure() -> Tensor:
        gradient(model)
        return torch.tensor(3.0)

    assert Muon(model.parameters(), lr=0.01, weight_decay=0.5).step(closure) == 3
    assert torch.equal(model[2].weight, kept)


def test_it_minimises() -> None:
    torch.manual_seed(0)
    model, target = nn.Linear(16, 16), torch.randn(16, 16)
    optimizer = Muon(model.parameters(), lr=0.1)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 300)
    inputs = torch.randn(256, 16)
    losses = []
    for _ in range(300):
        optimizer.zero_grad()
        loss = (model(inputs) - inputs @ target).square().mean()
        loss.backward()
        optimizer.step()
        falling.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-3 * losses[0]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"lr": -1.0}, r"lr is -1\.0; write"),
        ({"momentum": 1.0}, r"momentum is 1\.0; write"),
        ({"betas": (0.9, 1.5)}, r"betas\[1\] is 1\.5; write"),
        ({"eps": float("nan")}, "eps is nan; write"),
        ({"betas": [0.9]}, r"betas is \[0\.9\]; write two"),
        ({"betas": 0.9}, r"betas is 0\.9; write two"),
        ({"momentum": "fast"}, "momentum is 'fast'; write"),
        ({"weight_decay": -0.1}, r"weight_decay is -0\.1; write"),
    ],
)
def test_numbers_out_of_range_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"Muon: {says}"):
        Muon(nn.Linear(2, 2).parameters(), **given)


def test_a_matrix_without_a_gradient_to_speak_of_rests() -> None:
    """Momentum alone would go on at full length, however long ago the last gradient was."""
    weight = nn.Parameter(torch.randn(8, 8))
    optimizer = Muon([weight], lr=0.1)
    weight.grad = torch.randn(8, 8)
    optimizer.step()
    kept = weight.detach().clone()
    weight.grad = torch.zeros(8, 8)
    optimizer.step()
    assert torch.equal(weight, kept)


def test_sparse_gradients_are_refused() -> None:
    layer = nn.Embedding(10, 8, sparse=True)
    layer(torch.tensor([1])).sum().backward()
    with pytest.raises(
        ValueError, match="has a sparse gradient; build its layer with sparse=False"
    ):
        Muon(layer.parameters()).step()


def test_a_weight_of_no_entries_is_no_trouble() -> None:
    weight = nn.Parameter(torch.zeros(8, 8, 0))
    weight.grad = torch.zeros(8, 8, 0)
    Muon([weight]).step()


@pytest.mark.parametrize(
    ("group", "named"),
    [({"lr": -0.1}, "lr is -0.1"), ({"betas": (0.9,)}, "betas"), ({"momentum": 1.0}, "momentum")],
)
def test_a_group_of_its_own_numbers_is_held_to_them(group: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Muon([{"params": [nn.Parameter(torch.zeros(8, 8))], **group}])


def saved_by(make: Any, sides: tuple[int, int] = (8, 8), stepped: bool = True) -> dict[str, Any]:
    layer = nn.Linear(*sides)
    optimizer = make(layer.parameters())
    if stepped:
        layer(torch.randn(4, sides[0])).square().mean().backward()
        optimizer.step()
    return optimizer.state_dict()


@pytest.mark.parametrize("stepped", [True, False])
@pytest.mark.parametrize(
    "make", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adagrad, torch.optim.RMSprop]
)
def test_the_state_of_another_optimizer_is_refused(make: Any, stepped: bool) -> None:
    layer = nn.Linear(8, 8)
    optimizer = Muon(layer.parameters())
    with pytest.raises(ValueError, match="another optimizer's"):
        optimizer.load_state_dict(saved_by(make, stepped=stepped))
    layer(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()  # nothing has been taken on


@pytest.mark.parametrize("sides", [(16, 8), (8, 16), (4, 4), (8, 4)])
def test_the_state_of_other_weights_is_refused(sides: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="of another weight"):
        Muon(nn.Linear(*sides).parameters()).load_state_dict(saved_by(Muon))


def test_groups_that_are_loaded_are_held_to_their_ranges() -> None:
    state = saved_by(Muon)
    state["param_groups"][0]["lr"] = -1.0
    with pytest.raises(ValueError, match=r"lr is -1\.0"):
        Muon(nn.Linear(8, 8).parameters()).load_state_dict(state)


def test_numbers_beyond_a_float_are_refused() -> None:
    with pytest.raises(ValueError, match="lr is 1000"):
        Muon(nn.Linear(8, 8).parameters(), lr=10**400)
