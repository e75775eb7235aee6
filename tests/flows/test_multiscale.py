"""The multiscale flow against its dense Jacobian and a walk done by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    Compose,
    ConvField,
    ExactDivergence,
    KineticEnergy,
    LogitTransform,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Shift,
    Squeeze,
)
from tests.flows.cases import FINE, randomize

IMAGE = (1, 8, 4)


def block(channels: int) -> RegularizedFlow:
    field = randomize(ConvField(channels, (3,)), std=0.3)
    return RegularizedFlow(field, FINE, ExactDivergence(), [KineticEnergy(1.0)])


def vector_block(size: int) -> RegularizedFlow:
    return RegularizedFlow(randomize(MLPField(size, (4,))), FINE, ExactDivergence())


def images() -> MultiscaleFlow:
    """Two squeezes, two splits, blocks of every place."""
    return MultiscaleFlow(
        IMAGE,
        [
            Scale([block(1)], [block(4)], squeeze=True, split=True),
            Scale([], [block(8)], squeeze=True, split=True),
            Scale([block(4)]),
        ],
        preprocess=LogitTransform(0.05),
    )


def vectors() -> MultiscaleFlow:
    return MultiscaleFlow(
        (6,),
        [Scale([vector_block(6), vector_block(6)], split=True), Scale([vector_block(3)])],
        preprocess=Shift(-0.5),
    )


def unsplit() -> MultiscaleFlow:
    return MultiscaleFlow((4,), [Scale([vector_block(4)])])


every_flow = pytest.mark.parametrize("make", [images, vectors, unsplit])


def batch(flow: MultiscaleFlow, size: int) -> Tensor:
    return torch.rand(size, *flow.event_shape)


@every_flow
def test_log_det_is_the_dense_jacobians(make: Callable[[], MultiscaleFlow]) -> None:
    flow = make()
    x = batch(flow, 1)
    jacobian = torch.autograd.functional.jacobian(lambda s: flow(s).z, x)
    dense = torch.linalg.slogdet(jacobian.reshape(x.numel(), x.numel())).logabsdet
    log_det = flow(x).log_det[0]
    assert abs(log_det) > 0.1
    torch.testing.assert_close(log_det, dense, rtol=1e-6, atol=1e-6)


@every_flow
def test_inverse_undoes_forward(make: Callable[[], MultiscaleFlow]) -> None:
    flow = make()
    x = batch(flow, 3)
    there = flow(x)
    back = flow.inverse(there.z)
    torch.testing.assert_close(back.z, x, rtol=0, atol=1e-8)
    torch.testing.assert_close(back.log_det, -there.log_det, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(back.penalties, there.penalties, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(flow.generate(there.z), back.z, rtol=1e-7, atol=1e-8)


@every_flow
def test_latent_is_one_vector_that_splits_into_its_shapes(
    make: Callable[[], MultiscaleFlow],
) -> None:
    flow = make()
    z = flow(batch(flow, 3)).z
    parts = flow.split_latents(z)
    assert [tuple(part.shape[1:]) for part in parts] == flow.latent_shapes
    assert z.shape[1:] == flow.forward_shape(flow.event_shape)
    assert torch.equal(torch.cat([part.flatten(1) for part in parts], dim=1), z)


def test_latent_shapes() -> None:
    assert images().latent_shapes == [(2, 4, 2), (4, 2, 1), (4, 2, 1)]
    assert vectors().latent_shapes == [(3,), (3,)]
    assert unsplit().latent_shapes == [(4,)]


def test_penalties_are_summed_over_the_blocks() -> None:
    flow = images()
    x = batch(flow, 2)
    total, state = torch.zeros(2), flow.preprocess(x).z
    for scale in flow.scales:
        for step in scale.steps:
            result = step(state)
            total = total + result.penalties.get("kinetic_energy", 0.0)
            state = result.z
        if scale.split:
            state = state[:, : state.shape[1] // 2]
    torch.testing.assert_close(flow(x).penalties, {"kinetic_energy": total})


def test_each_block_weighs_its_penalties_by_its_own_weights() -> None:
    def weighted(weight: float) -> RegularizedFlow:
        field = randomize(MLPField(2, (4,)))
        return RegularizedFlow(field, FINE, ExactDivergence(), [KineticEnergy(weight)])

    flow = MultiscaleFlow((2,), [Scale([weighted(0.5), weighted(0.0), weighted(3.0)])])
    x = torch.randn(3, 2)
    result, total = flow.forward_weighted(x)
    energies, state = [], x
    for one in flow.blocks:
        state, _, penalties = one(state)
        energies.append(penalties["kinetic_energy"])
    torch.testing.assert_close(total, 0.5 * energies[0] + 3.0 * energies[2])
    torch.testing.assert_close(result.penalties["kinetic_energy"], sum(energies))
    torch.testing.assert_close(tuple(result), tuple(flow(x)))


def squeezed_index(channel: int, row: int, column: int) -> tuple[int, int, int]:
    """Where the entry of a squeezed image stood before."""
    source, place = divmod(channel, 4)
    return source, 2 * row + place // 2, 2 * column + place % 2


def test_walk_names_the_coordinates_that_each_block_sees() -> None:
    flow = images()
    stations = list(flow.walk())
    assert [station.flow for station in stations] == flow.blocks
    assert [station.scale for station in stations] == [0, 0, 1, 2]
    assert [station.shape for station in stations] == [(1, 8, 4), (4, 4, 2), (8, 2, 1), (4, 2, 1)]

    _, height, width = IMAGE

    def pixel(depth: int, channel: int, row: int, column: int) -> int:
        """Flat index in the image of an entry that was squeezed ``depth`` times.

        A split keeps the first channels, so that the channel's number stays.
        """
        for _ in range(depth):
            channel, row, column = squeezed_index(channel, row, column)
        return (channel * height + row) * width + column

    for station, depth in zip(stations, [0, 1, 2, 2], strict=True):
        channels, rows, columns = station.shape
        expected = [
            pixel(depth, c, i, j)
            for c in range(channels)
            for i in range(rows)
            for j in range(columns)
        ]
        assert station.coordinates.flatten().tolist() == expected


def test_walk_agrees_with_what_the_blocks_are_given() -> None:
    flow = vectors()
    seen: list[Tensor] = []
    for one in flow.blocks:
        torch.nn.init.zeros_(one.field.layers[-1].weight)
        torch.nn.init.zeros_(one.field.layers[-1].time_weight)
        torch.nn.init.zeros_(one.field.layers[-1].bias)
        one.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x = batch(flow, 2)
    flow(x)
    shifted = flow.preprocess(x).z.flatten(1)
    for station, given in zip(flow.walk(), seen, strict=True):
        torch.testing.assert_close(given, shifted[:, station.coordinates])


@pytest.mark.parametrize(
    ("event_shape", "scales", "fragments"),
    [
        ((1, 8, 8), [], ["at least one scale"]),
        (
            (1, 4, 4),
            [Scale([], squeeze=True), Scale([], squeeze=True), Scale([], squeeze=True)],
            ["scale 2", "(16, 1, 1)", "squeezed"],
        ),
        ((3, 6, 7), [Scale([], squeeze=True)], ["scale 0", "(3, 6, 7)", "even"]),
        ((8,), [Scale([]), Scale([], squeeze=True)], ["scale 1", "(8,)", "squeezed"]),
        ((3, 4, 4), [Scale([], split=True), Scale([])], ["scale 0", "(3, 4, 4)", "halved"]),
        ((4,), [Scale([], split=True), Scale([], split=True)], ["scale 1", "last", "split"]),
    ],
    ids=["no scale", "too small", "odd width", "vector", "odd channels", "last splits"],
)
def test_what_does_not_fit_names_scale_and_shape(
    event_shape: tuple[int, ...], scales: list[Scale], fragments: list[str]
) -> None:
    with pytest.raises(ValueError, match="scale") as refusal:
        MultiscaleFlow(event_shape, scales)
    assert [f for f in fragments if f not in str(refusal.value)] == []


def test_blocks_after_without_a_squeeze_are_refused() -> None:
    with pytest.raises(ValueError, match="squeeze=True"):
        Scale([block(1)], [block(4)])


def test_latents_of_another_size_are_refused_with_both_shapes() -> None:
    flow = vectors()
    for call in (flow.inverse, flow.generate, flow.split_latents):
        with pytest.raises(ValueError, match=r"\(2, 5\).*6"):
            call(torch.zeros(2, 5))


def test_preprocessing_that_reshapes_is_followed_or_refused() -> None:
    reshaping = Compose([LogitTransform(0.05), Squeeze()])
    try:
        flow = MultiscaleFlow((1, 4, 4), [Scale([block(4)])], preprocess=reshaping)
    except ValueError as refusal:
        assert "preprocess" in str(refusal)  # noqa: PT017  # either answer is sound
    else:
        x = batch(flow, 2)
        torch.testing.assert_close(flow.generate(flow(x).z), x, rtol=0, atol=1e-7)
