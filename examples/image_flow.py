"""A multiscale flow of small images: squeeze, split, and the inverse that undoes them."""

import torch

from rnode_dyn import (
    RK4,
    CheckpointedAdjoint,
    ConvField,
    FixedStep,
    FlowDistribution,
    HutchinsonDivergence,
    JacobianFrobenius,
    KineticEnergy,
    LogitTransform,
    MultiscaleFlow,
    RegularizedFlow,
    Scale,
    Solver,
    UniformDequantization,
    bits_per_dim,
)

torch.manual_seed(0)


def block(channels: int) -> RegularizedFlow:
    """Return one continuous block."""
    return RegularizedFlow(
        ConvField(channels, hidden=(16, 16)),
        solver=Solver(RK4(), FixedStep(0.25), CheckpointedAdjoint()),
        divergence=HutchinsonDivergence("rademacher"),
        regularizers=[KineticEnergy(0.01), JacobianFrobenius(0.01)],
    )


model = MultiscaleFlow(
    event_shape=(1, 8, 8),
    scales=[
        Scale([block(1)], [block(4)], squeeze=True, split=True),
        Scale([block(2)]),
    ],
    preprocess=LogitTransform(1e-2),
)
print("latent shapes:", model.latent_shapes)

pixels = torch.randint(0, 17, (5, 1, 8, 8), dtype=torch.uint8)
u = UniformDequantization(levels=17)(pixels)

result, weighted = model.forward_weighted(u)
log_prob = FlowDistribution(model, (1, 8, 8)).log_prob(u)
bits = bits_per_dim(log_prob, dims=64, levels=17)
loss = bits.mean() + weighted.mean()
loss.backward()
print("bits/dim:", bits.detach(), "penalties:", sorted(result.penalties))

with torch.no_grad():
    back = model.inverse(result.z)
print("largest error of the inverse:", float((back.z - u).abs().max()))

for number, station in enumerate(model.walk()):
    print(f"block {number}: scale {station.scale}, sees {station.shape}")
