"""Maps without an ODE: inverses, log-determinants, and what they refuse."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rnode_dyn import (
    Compose,
    ExactDivergence,
    FlowResult,
    LogitTransform,
    MLPField,
    RegularizedFlow,
    Shift,
    Squeeze,
    Standardize,
    ThreeBells,
    Transform,
)
from tests.flows.cases import FINE, randomize

TRANSFORMS: dict[str, Callable[[], Transform]] = {
    "logit": lambda: LogitTransform(0.05),
    "sharp logit": lambda: LogitTransform(1e-5),
    "three bells": lambda: ThreeBells(0.03, 0.21),
    "shift": lambda: Shift(-0.5),
    "squeeze": Squeeze,
    "composed": lambda: Compose([LogitTransform(0.05), Squeeze(), Shift(0.3), Squeeze()]),
    "standardize": lambda: Standardize(torch.rand(SHAPE), 0.1 + torch.rand(SHAPE)),
    "nothing": lambda: Compose([]),
}
SHAPE = (2, 4, 4)

every_transform = pytest.mark.parametrize(
    "make", TRANSFORMS.values(), ids=[name.replace(" ", "-") for name in TRANSFORMS]
)


def dense_log_det(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """log |det| of the dense Jacobian at one sample ``(1, *event)``."""
    jacobian = torch.autograd.functional.jacobian(function, x)
    return torch.linalg.slogdet(jacobian.reshape(x.numel(), x.numel())).logabsdet[None]


@every_transform
def test_log_det_is_the_dense_jacobians(make: Callable[[], Transform]) -> None:
    transform, x = make(), torch.rand(1, *SHAPE)
    z, log_det, penalties = transform(x)
    assert penalties == {}
    torch.testing.assert_close(log_det, dense_log_det(lambda s: transform(s).z, x))
    back = transform.inverse(z)
    torch.testing.assert_close(back.log_det, dense_log_det(lambda s: transform.inverse(s).z, z))


@every_transform
@settings(deadline=None, max_examples=30)
@given(pixels=st.lists(st.floats(0, 1), min_size=64, max_size=64))
def test_inverse_undoes_forward(make: Callable[[], Transform], pixels: list[float]) -> None:
    transform = make()
    x = torch.tensor(pixels, dtype=torch.float64).reshape(2, *SHAPE)
    there = transform(x)
    back = transform.inverse(there.z)
    torch.testing.assert_close(back.z, x, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(back.log_det, -there.log_det, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(transform.generate(there.z), back.z, rtol=0, atol=0)
    assert tuple(there.z.shape[1:]) == transform.forward_shape(SHAPE)


def test_squeeze_turns_each_patch_into_neighbouring_channels() -> None:
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    z = Squeeze()(x).z
    for channel in range(2):
        for row in range(2):
            for column in range(2):
                expected = x[0, channel, row::2, column::2]
                assert torch.equal(z[0, 4 * channel + 2 * row + column], expected)


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 4, 5), (4, 4), (16,), (1, 1, 4, 4)])
def test_what_cannot_be_squeezed_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    for refuse in (Squeeze().forward_shape, lambda s: Squeeze()(torch.zeros(1, *s))):
        with pytest.raises(ValueError, match="even height and width") as refusal:
            refuse(shape)
        assert str(shape) in str(refusal.value)


@pytest.mark.parametrize("alpha", [0, 0.5, -0.1, 1, float("nan")])
def test_alpha_outside_its_range_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=rf"alpha is {alpha!r}.*between 0 and 0\.5"):
        LogitTransform(alpha)


def test_chained_penalties_of_one_name_add_up() -> None:
    ones = torch.ones(2)
    first = FlowResult(torch.zeros(2, 3), ones, {"a": ones, "b": ones})
    second = FlowResult(torch.ones(2, 3), 2 * ones, {"b": 3 * ones, "c": ones})
    chained = first.then(second)
    assert torch.equal(chained.z, second.z)
    assert torch.equal(chained.log_det, 3 * ones)
    assert {name: float(value[0]) for name, value in chained.penalties.items()} == {
        "a": 1.0,
        "b": 4.0,
        "c": 1.0,
    }
    assert float(first.penalties["b"][0]) == 1.0


def test_a_chain_of_transforms_and_flows_has_the_dense_log_det() -> None:
    def flow(size: int | tuple[int, ...]) -> nn.Module:
        return RegularizedFlow(randomize(MLPField(size, (4,))), FINE, ExactDivergence())

    chain = Compose([LogitTransform(0.05), flow((1, 2, 2)), Squeeze(), flow((4, 1, 1)), Shift(1.0)])
    x = torch.rand(1, 1, 2, 2)
    z, log_det, _ = chain(x)
    torch.testing.assert_close(
        log_det, dense_log_det(lambda s: chain(s).z, x), rtol=1e-6, atol=1e-7
    )
    torch.testing.assert_close(chain.inverse(z).z, x, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(chain.generate(z), chain.inverse(z).z, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("below", "above", "mean", "deviation", "cut"),
    [(0.0, 0.1, -5.82, 1.0, 2.6), (0.1, 0.7, 0.0, 1.15, 2.8), (0.7, 1.0, 5.82, 1.0, 2.6)],
)
def test_uniform_noise_becomes_a_bell_in_each_part(
    below: float, above: float, mean: float, deviation: float, cut: float
) -> None:
    x = below + (above - below) * (torch.arange(40_000, dtype=torch.float64) + 0.5) / 40_000
    y = ThreeBells(0.1, 0.3)(x[:, None]).z[:, 0]
    inner = (y - mean).abs() < deviation * (cut - 0.1)
    share = torch.special.ndtr((y[inner] - mean) / deviation)
    uniform = x[inner]
    slope = (share[-1] - share[0]) / (uniform[-1] - uniform[0])
    torch.testing.assert_close(share, share[0] + slope * (uniform - uniform[0]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("transform", [LogitTransform(0.05), ThreeBells(0.1, 0.3)], ids=str)
@pytest.mark.parametrize("x", [-0.5, 1.5, math.nan])
def test_outside_of_the_cube_there_is_no_density(transform: Transform, x: float) -> None:
    y, log_det, _ = transform(torch.tensor([[x, 0.5]]))
    assert y.isnan().tolist() == [[True, False]]
    assert bool(log_det.isnan().all())


def test_bells_in_double_precision_are_exact_to_it() -> None:
    bells, x = ThreeBells(1 / 256, 4 / 256), torch.tensor([[0.001]], dtype=torch.float64)
    expected = dense_log_det(lambda s: bells(s).z, x)
    torch.testing.assert_close(bells(x).log_det, expected, rtol=0, atol=1e-12)


def test_bells_meet_where_one_part_ends() -> None:
    bells = ThreeBells(0.1, 0.3, reach=3.0, grey_deviation=1.5, grey_reach=2.0)
    x = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:, None]
    assert (bells(x).z[:, 0].diff() > 0).all()
    edges = torch.tensor([[0.1 - 1e-9], [0.1 + 1e-9], [0.7 - 1e-9], [0.7 + 1e-9]]).double()
    wanted = torch.tensor([-3.0, -3.0, 3.0, 3.0]).double()
    torch.testing.assert_close(bells(edges).z[:, 0], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "given",
    [
        {"dark": 0.0},
        {"bright": -0.1},
        {"dark": 0.6, "bright": 0.4},
        {"dark": math.nan},
        {"reach": 0.0},
        {"grey_reach": math.inf},
        {"grey_deviation": -1.0},
    ],
    ids=str,
)
def test_bells_that_are_none_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"ThreeBells: .*; write"):
        ThreeBells(**{"dark": 0.1, "bright": 0.1, **given})
