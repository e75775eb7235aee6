"""What standardises a table: right at every size, and 0 where a column is constant."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from rnode_dyn import DataError, DataWarning, load_data
from rnode_dyn.data import Scaling, Splits

NORMAL = np.random.default_rng(0).standard_normal((1000, 2))


def loaded(rows: np.ndarray, root: Path, *, standardize: bool = True, **options: int) -> Splits:
    np.save(root / "data.npy", rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return load_data("npy", root=root, standardize=standardize, **options)  # type: ignore[arg-type]


def test_rows_stay_as_they_are(tmp_path: Path) -> None:
    rows = NORMAL * [1, 100] + [0, 1e3]
    splits = loaded(rows, tmp_path)
    assert torch.equal(splits.train[:], torch.from_numpy(rows[:810]).float())
    assert loaded(rows, tmp_path, standardize=False).scaling is None


def test_the_scaling_is_of_the_training_rows_alone_and_of_all_of_them(tmp_path: Path) -> None:
    rows = NORMAL * [1, 100] + [0, 1e3]
    rows[810:] += 5  # tells whose mean was taken
    expected = rows[:810].mean(axis=0), rows[:810].std(axis=0)
    for options in ({}, {"train_size": 10}):
        scaling = loaded(rows, tmp_path, **options).scaling
        assert scaling is not None
        np.testing.assert_allclose(scaling.shift, expected[0], rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(scaling.scale, expected[1], rtol=1e-12)
    standardised = loaded(rows, tmp_path).standardised().test[:]
    np.testing.assert_allclose(standardised, (rows[-100:] - expected[0]) / expected[1], atol=1e-5)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e-40, 1e-3, 1.0, 1e6, 1e37, 1e160, 1e299])
@pytest.mark.parametrize("offset", [0.0, -3.0, 1e4])
def test_columns_of_any_size_come_to_mean_0_and_deviation_1(
    size: float, offset: float, tmp_path: Path
) -> None:
    """Also where squares vanish or have no end in float64, and values in float32."""
    if size * offset > 2.0**1000:
        pytest.skip("these are refused: differences of such numbers may have no end")
    train = loaded((NORMAL + offset) * size, tmp_path).standardised().train[:].double()
    assert abs(train.mean(dim=0)).max() < 1e-5
    torch.testing.assert_close(
        train.std(dim=0, correction=0), torch.ones(2).double(), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    "column",
    [
        np.full(1000, 0.1),
        np.full(1000, 1e160),
        np.full(1000, -1e-300),
        np.zeros(1000),
        np.full(1000, 0.1, dtype=np.float32),
        np.full(1000, 65504, dtype=np.float16),
        np.where(np.arange(1000) % 2, 0.3, 0.1 + 0.2),
        1 / 3 + np.spacing(1 / 3) * (np.arange(1000) % 3),
    ],
    ids=["0.1", "1e160", "-1e-300", "0", "float32", "float16", "rounded", "a few steps"],
)
@pytest.mark.parametrize("rows", [20, 1000])
def test_a_constant_column_is_said_by_its_number_and_becomes_0(
    column: np.ndarray, rows: int, tmp_path: Path
) -> None:
    table = np.stack([NORMAL[:rows, 0].astype(column.dtype), column[:rows]], axis=1)
    np.save(tmp_path / "data.npy", table)
    with pytest.warns(DataWarning, match=r"data\.npy has the same value .* column 1 \(counted"):
        splits = load_data("npy", root=tmp_path, standardize=True)
    assert splits.scaling is not None
    assert (splits.scaling.constant, splits.scaling.scale[1]) == ((1,), 1)
    for part in (splits.train, splits.validation, splits.test):
        assert (splits.scaling.apply(part[:])[:, 1] == 0).all()


def test_constant_columns_are_all_named_also_unstandardised(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", np.c_[np.ones(100), NORMAL[:100], np.ones(100)])
    with pytest.warns(DataWarning, match="columns 0, 3 .counted from 0.. A constant has no dens"):
        load_data("npy", root=tmp_path)


def test_another_value_in_a_column_that_was_constant_is_no_rounding() -> None:
    scaling = Scaling.of(np.full((10, 1), 2.0))
    rows = torch.tensor([[2.0], [2.001], [-1.0]])
    assert scaling.apply(rows)[:, 0].tolist() == pytest.approx([0.0, 0.001, -3.0], abs=1e-6)


def test_steps_of_half_precision_are_values() -> None:
    column = np.array([1000, 1000.5, 1001, 1001.5], dtype=np.float16)[:, None]
    assert Scaling.of(column).constant == ()


def test_values_that_float32_cannot_tell_apart_are_kept(tmp_path: Path) -> None:
    rows = NORMAL * 1e-3 + 1e6
    splits = loaded(rows, tmp_path)
    assert splits.train[:].dtype == torch.float64
    assert torch.equal(splits.test[:], torch.from_numpy(rows[-100:]))
    with pytest.raises(
        DataError, match=r"column \d .* float32 cannot tell apart.*standardize = true"
    ):
        loaded(rows, tmp_path, standardize=False)
