"""The stand-in itself refuses, draws, differentiates and counts as a GPU would have it."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap

from tests.accelerator.readings import host_readings
from tests.accelerator.tensor import AccelTensor

pytestmark = pytest.mark.usefixtures("accel")


def values(*shape: int) -> Tensor:
    return torch.randn(*shape, device="accel")


@pytest.mark.parametrize(
    "mix",
    [
        lambda a: a + torch.ones(3),
        lambda a: torch.ones(3) * a,
        lambda a: a @ torch.ones(3),
        lambda a: torch.stack([a, torch.ones(3)]),
        lambda a: torch.cat([a, torch.ones(3)]),
        lambda a: a[torch.tensor([0, 1])],
        lambda a: torch.lerp(a, a, torch.tensor(0.5)),
        lambda a: torch.stack([a.sum(), torch.tensor(1.0)]),
        lambda a: nn.Linear(3, 2)(a),
        lambda a: a.numpy(),
        lambda a: torch.rand(3, device="accel", generator=torch.Generator()),
    ],
)
def test_mixtures_are_refused(mix) -> None:
    with pytest.raises((RuntimeError, TypeError), match=r"same device|generator|subclasses"):
        mix(values(3))


@pytest.mark.parametrize(
    "mix",
    [
        lambda a: a * torch.tensor(2.0),
        lambda a: torch.tensor(2.0) - a,
        lambda a: torch.where(a > 0, a, torch.tensor(0.0)),
        lambda a: torch.maximum(a, torch.tensor(0.0)),
        lambda a: a.masked_fill(a > 0, torch.tensor(1.0)),
    ],
)
def test_a_number_of_the_host_is_taken(mix) -> None:
    a = values(3)
    assert mix(a).device.type == "accel"
    torch.testing.assert_close(mix(a).cpu(), mix(a.cpu()))


@pytest.mark.parametrize(
    ("readings", "read"),
    [
        (1, lambda a: a.sum().item()),
        (1, lambda a: float(a[0])),
        (1, lambda a: bool((a > 0).any())),
        (1, lambda a: a.tolist()),
        (1, lambda a: a.cpu()),
        (1, lambda a: a.to("cpu")),
        (1, lambda a: torch.empty(3).copy_(a)),
        (1, lambda a: a.nonzero()),
        (1, lambda a: a[a > 0]),
        (1, lambda a: torch.masked_select(a, a > 0)),
        (1, lambda a: torch.equal(a, a)),
        (1, lambda a: torch.allclose(a, a)),
        (1, lambda a: a.unique()),
        (1, lambda a: a.clone().index_put_((a > 0,), values(3))),
        (1, lambda a: torch.linalg.inv(torch.eye(2, device="accel"))),
        (0, lambda a: a.clone().index_put_((a > 0,), torch.tensor(1.0, device="accel"))),
        (0, lambda a: a[torch.tensor([0, 1], device="accel")]),
        (0, lambda a: a[1:].shape[0] + a.numel()),
        (0, lambda a: torch.where(a > 0, a, 0.0).isfinite().all()),
        (0, lambda a: a.to(torch.float64).contiguous().argmax()),
        (0, lambda a: torch.tensor([1.0, 2.0]).to("accel")),
    ],
)
def test_what_counts_as_a_reading(readings: int, read) -> None:
    a = torch.arange(1.0, 4.0, device="accel")
    with host_readings() as counted:
        read(a)
    assert counted.count == readings, str(counted)


def test_counts_nest_and_name_the_place() -> None:
    from rnode_dyn import ODEProblem

    with host_readings() as outer:
        float(values(1))
        mask = torch.ones(2, dtype=torch.bool, device="accel")
        with host_readings() as inner:
            ODEProblem(lambda t, x: x, values(1, 2), (0.0, 1.0), error_mask=mask)
    assert (outer.count, inner.count) == (2, 1)
    assert next(iter(inner.places)).startswith("rnode_dyn/numerics/problem.py:")
    float(values(1))
    assert outer.count == 2


def test_numbers_are_those_of_the_seed_and_leave_the_cpu_alone() -> None:
    def draw(device: str) -> list[Tensor]:
        torch.manual_seed(5)
        return [
            torch.randn(3, device=device),
            torch.rand(2, 2, device=device),
            torch.randperm(7, device=device),
            torch.randn_like(torch.zeros(2, device=device)),
            torch.randint(0, 9, (4,), device=device),
            nn.functional.dropout(torch.ones(9, device=device)),
            torch.empty(3, device=device).uniform_(-1, 1),
        ]

    of_the_cpu = draw("cpu")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    for found, expected in zip(draw("accel"), of_the_cpu, strict=True):
        torch.testing.assert_close(found.cpu(), expected)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_random_state_can_be_kept_and_put_back() -> None:
    with torch.random.fork_rng(["accel:0"], device_type="accel"):
        first = values(3).cpu()
    assert torch.equal(values(3).cpu(), first)


def test_views_share_and_writes_are_seen() -> None:
    a = torch.zeros(2, 3, device="accel")
    a[0].add_(1.0)
    a[:, 2] = 5.0
    a.view(-1)[3] = 7.0
    assert a.tolist() == [[1.0, 1.0, 5.0], [7.0, 0.0, 5.0]]
    assert a.add_(1.0) is a
    assert a.unsqueeze_(0) is a
    assert (a.shape, a[0, 1].tolist()) == ((1, 2, 3), [8.0, 1.0, 6.0])


def test_derivatives() -> None:
    def both(f) -> tuple[Tensor, Tensor]:
        x = torch.linspace(-1.0, 1.0, 6).reshape(2, 3)
        return f(x.to("accel")).cpu(), f(x)

    def gradient(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        return torch.autograd.grad((x.sin() * x[:, :1].exp()).sum(), x)[0]

    torch.testing.assert_close(*both(gradient))
    torch.testing.assert_close(*both(lambda x: vjp(torch.sin, x)[1](x)[0]))
    torch.testing.assert_close(*both(lambda x: jvp(torch.sin, (x,), (x,))[1]))
    torch.testing.assert_close(*both(lambda x: jvp(lambda y: 2 * y @ y.T, (x,), (x,))[1]))
    torch.testing.assert_close(*both(lambda x: vmap(gradient_of_one)(x)))


def gradient_of_one(x: Tensor) -> Tensor:
    return vjp(lambda y: y.tanh().sum(), x)[1](torch.ones((), device=x.device))[0]


def test_a_module_moves_is_copied_and_trains() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1))
    on_device = copy.deepcopy(copy.deepcopy(module).to("accel"))
    assert all(isinstance(p.data, AccelTensor) for p in on_device.parameters())
    x = torch.randn(3, 1, 4, 4)
    for each in (module, on_device):
        optimizer = torch.optim.AdamW(each.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            each(x.to(next(each.parameters()).device)).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(each.parameters(), 0.5)
            optimizer.step()
    for one, other in zip(module.parameters(), on_device.parameters(), strict=True):
        torch.testing.assert_close(one, other.cpu())


def test_autocast_computes_products_in_low_precision() -> None:
    linear, x = nn.Linear(3, 3), torch.randn(2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = linear(x)
    with torch.autocast("accel", dtype=torch.bfloat16):
        found = linear.to("accel")(x.to("accel"))
        assert (found + 1.0).dtype is found.dtype is torch.bfloat16
        assert values(2).exp().dtype is torch.float32
    torch.testing.assert_close(found.cpu(), expected)
