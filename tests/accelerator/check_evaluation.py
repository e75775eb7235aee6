"""Evaluating and drawing samples on the device gives what it gives on the CPU."""

import numpy as np
import pytest
import torch
from torch import Tensor

from rnode_dyn import (
    ExactDivergence,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    UniformDequantization,
    evaluate,
    plot,
)
from rnode_dyn.data.splits import Event
from rnode_dyn.flows.refinement import refine
from rnode_dyn.report.grids import draw_samples
from rnode_dyn.report.strip import frames
from tests.accelerator.models import image_model
from tests.accelerator.twins import Figures, agree
from tests.flows.cases import randomize

pytestmark = pytest.mark.usefixtures("accel", "double_precision")

IMAGES = Event((1, 8, 8), levels=17)


def pixels() -> Tensor:
    return torch.randint(0, 17, (5, 1, 8, 8), dtype=torch.uint8)


@pytest.mark.parametrize("divergence", [None, ExactDivergence()], ids=["own", "exact"])
def test_evaluate(divergence) -> None:
    def use(model: MultiscaleFlow, batch: Tensor) -> Figures:
        found = evaluate(model, [batch.cpu()], IMAGES, seed=7, divergence=divergence)
        wanted = ("bits_per_dim", "bits_per_dim_stderr", "bits_per_dim_bin_centre", "nfe_forward")
        return {name: found.as_dict()[name] for name in (*wanted, "kinetic_energy")}

    agree(lambda: (image_model(), pixels()), use, rtol=1e-6)


def test_dequantizing() -> None:
    def use(batch: Tensor) -> Figures:
        dequantize = UniformDequantization(17)
        u = dequantize(batch)
        return {"u": u, "centre": dequantize.bin_centre(batch), "back": dequantize.requantize(u)}

    agree(lambda: (pixels(),), use)


def test_drawing_samples() -> None:
    def use(model: MultiscaleFlow) -> Figures:
        return {"drawn": draw_samples(model, IMAGES, 3, 0.7, seed=4)}

    agree(lambda: (image_model(),), use, on_the_host=True)


def test_a_strip_of_samples() -> None:
    def use(model: MultiscaleFlow, z: Tensor) -> Figures:
        return {f.title: f.images for f in frames(model.eval(), z)}

    agree(lambda: (image_model(), torch.randn(2, 64)), use, on_the_host=True)


def test_plotting_a_density() -> None:
    def use(flow: RegularizedFlow, data: Tensor) -> Figures:
        (picture,) = plot.density(flow, data).get_images()
        return {"density": torch.as_tensor(np.asarray(picture.get_array()))}

    def make() -> tuple[RegularizedFlow, Tensor]:
        field = randomize(MLPField(2, hidden=(5,)))
        return RegularizedFlow(field, divergence=ExactDivergence()), torch.randn(20, 2)

    agree(make, use, on_the_host=True, rtol=1e-4)


def test_refining() -> None:
    def use(model: MultiscaleFlow, u: Tensor) -> Figures:
        found = refine(model, u, model.blocks, seed=3)
        return {"log_prob": found.log_prob, **{f"gap {k}": g for k, g in enumerate(found.gaps)}}

    agree(lambda: (image_model(), torch.rand(5, 1, 8, 8)), use, rtol=1e-8)


def test_evaluating_and_drawing_leave_the_random_numbers_of_the_device_as_they_were() -> None:
    model, u = image_model().to("accel"), torch.rand(2, 1, 8, 8, device="accel")
    before = torch.get_device_module("accel").get_rng_state()
    evaluate(model, [pixels()], IMAGES)
    refine(model, u, model.blocks, seed=3)
    draw_samples(model, IMAGES, 3, 0.7, seed=4)
    assert torch.equal(torch.get_device_module("accel").get_rng_state(), before)
