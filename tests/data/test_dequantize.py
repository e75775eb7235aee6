"""Pixels spread over their bins, and back."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnode_dyn.data import DataError, UniformDequantization, bits_per_dim, load_data


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(levels=st.integers(2, 4096), seed=st.integers(0, 2**32))
def test_dequantized_pixels_requantize_to_themselves(levels: int, seed: int) -> None:
    dequantize = UniformDequantization(levels)
    pixels = torch.arange(levels)
    u = dequantize(pixels, seeded(seed))
    assert u.dtype == torch.float32
    assert u.min() >= 0
    assert u.max() < 1
    assert torch.equal(dequantize.requantize(u), pixels)


@pytest.mark.parametrize("noise", [0.0, 1 - 2**-24], ids=["least", "greatest"])
@pytest.mark.parametrize("levels", [*range(2, 257), 1024, 65536])
def test_no_noise_leaves_its_bin(
    levels: int, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, noise))
    dequantize = UniformDequantization(levels)
    pixels = torch.arange(levels)
    u = dequantize(pixels)
    assert u.max() < 1
    assert torch.equal(dequantize.requantize(u), pixels)


def test_digits_fill_their_bins_evenly() -> None:
    splits = load_data("digits")
    pixels = splits.train.head(len(splits.train))
    u = UniformDequantization(17)(pixels, seeded(0))
    in_bins = torch.histc(u, bins=17, min=0, max=1)
    assert torch.equal(in_bins.long(), torch.bincount(pixels.flatten().long(), minlength=17))
    # Within a bin: the mean of n uniform numbers is ½ ± 1/√(12 n); five times that is never seen.
    within = u * 17 - pixels
    assert abs(within.mean() - 0.5) < 5 / math.sqrt(12 * within.numel())


def test_noise_is_the_generators() -> None:
    pixels = torch.arange(16, dtype=torch.uint8)
    dequantize = UniformDequantization(16)
    first, again, other = (dequantize(pixels, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_bin_centres_are_the_mean_of_the_bin(levels: int) -> None:
    pixels = torch.arange(levels, dtype=torch.uint8)
    centres = UniformDequantization(levels).bin_centre(pixels).double()
    torch.testing.assert_close(centres, (pixels.double() + 0.5) / levels, rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", ["__call__", "bin_centre"])
def test_continuous_data_is_refused(method: str) -> None:
    with pytest.raises(DataError, match=r"integers, and torch\.float32 was given"):
        getattr(UniformDequantization(256), method)(torch.rand(3))


@pytest.mark.parametrize("levels", [1, 0, -5])
def test_too_few_levels_are_refused(levels: int) -> None:
    with pytest.raises(DataError, match=f"levels = {levels} leaves nothing to model"):
        UniformDequantization(levels)


@pytest.mark.parametrize("dims", [1, 2, 784])
def test_bits_of_continuous_data_are_of_the_density_alone(dims: int) -> None:
    entropy = 0.5 * math.log(2 * math.pi * math.e)  # of a standard normal, per dimension
    bits = bits_per_dim(torch.tensor(-dims * entropy, dtype=torch.float64), dims, None)
    assert bits.item() == pytest.approx(entropy / math.log(2))


@pytest.mark.parametrize("levels", [2, 17, 32, 256])
def test_a_certain_image_costs_nothing(levels: int) -> None:
    # All the mass on one bin of the cube: the density there is levels^dims.
    log_prob = torch.full((3,), 64 * math.log(levels), dtype=torch.float64)
    torch.testing.assert_close(
        bits_per_dim(log_prob, 64, levels), torch.zeros(3, dtype=torch.float64)
    )
