"""Scoring samples of one's own, in Python and by the command."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from rnode_dyn import (
    DataError,
    ExactDivergence,
    MLPField,
    MultiscaleFlow,
    Quadrature,
    RegularizedFlow,
    Run,
    Scale,
    load_data,
    load_recipe,
    load_run,
    run,
)
from rnode_dyn.cli.app import app
from rnode_dyn.data import Event
from rnode_dyn.data.reading import read_samples
from rnode_dyn.runs.score import score_samples

SMALL = ["train.max_steps=2", "data.train_size=64", "data.validation_size=20", "data.test_size=20"]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(run(load_recipe("moons", SMALL), tmp_path_factory.mktemp("plane")).folder)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Run:
    small = [*SMALL, "model.field.hidden=[8]", "samples.count=4"]
    return load_run(run(load_recipe("quickstart", small), tmp_path_factory.mktemp("d")).folder)


def test_scores_are_log_densities(plane: Run) -> None:
    x = load_data("moons").test[:50]
    score = plane.score(x, batch_size=20)
    wanted = plane.distribution().log_prob(x).double()
    torch.testing.assert_close(score.log_prob, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(score.bits_per_dim, -score.log_prob / (2 * np.log(2)))
    assert not score.stderr.any()


def test_what_is_estimated_has_a_standard_error(digits: Run) -> None:
    x = load_data("digits").test[:6]
    score = digits.score(x, probes=3, seed=1)
    assert bool((score.stderr > 0).all())
    assert torch.equal(score.log_prob, digits.score(x.numpy(), probes=3, seed=1).log_prob)
    assert bool(digits.score(x, probes=1).stderr.isnan().all())


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.zeros((4, 3)), ValueError, r"\(4, 3\).*\(n, 2\)"),
        (np.zeros(2), ValueError, r"\(2,\)"),
        (np.zeros((0, 2)), ValueError, "no sample"),
        (np.zeros((4, 2), int), TypeError, "int64"),
        (np.full((4, 2), np.nan), ValueError, "sample 0"),
        ([[0.0, 0.0]], TypeError, "list"),
    ],
)
def test_what_is_no_sample_is_refused(plane: Run, x: object, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        plane.score(x)


def test_a_batch_of_none_is_refused(plane: Run) -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        plane.score(np.zeros((4, 2)), batch_size=0)


def test_pixels_that_are_none_are_refused(digits: Run) -> None:
    with pytest.raises(TypeError, match="whole-numbered pixels from 0 to 16"):
        digits.score(np.zeros((2, 1, 8, 8)))
    with pytest.raises(ValueError, match="from 0 to 255"):
        digits.score(np.array([0, 255], np.uint8).repeat(64).reshape(2, 1, 8, 8))


def command(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, words)))
    return result.exit_code, result.output


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_the_command_reads_and_writes(plane: Run, tmp_path: Path, suffix: str) -> None:
    x, source, output = load_data("moons").test[:9].numpy(), tmp_path / f"x{suffix}", tmp_path / "s"
    if suffix == ".csv":
        np.savetxt(source, x, delimiter=",", header="a,b", comments="")
    else:
        (np.save if suffix == ".npy" else np.savez)(source, x)
    wanted = plane.score(x).log_prob.numpy()
    for ending in (".npy", ".npz", ".csv"):
        path = output.with_suffix(ending)
        code, said = command("score", plane.folder.path, source, "--output", path)
        assert code == 0, said
    np.testing.assert_allclose(np.load(output.with_suffix(".npy")), wanted, rtol=1e-5)
    np.testing.assert_allclose(np.load(output.with_suffix(".npz"))["log_prob"], wanted, rtol=1e-5)
    with output.with_suffix(".csv").open() as file:
        found = [float(row["log_prob"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_a_folder_of_pictures_is_scored(digits: Run, tmp_path: Path) -> None:
    for number in range(3):
        Image.new("L", (8, 8), 40 * number).save(tmp_path / f"{number}.png")
    code, said = command("score", digits.folder.path, tmp_path, "--output", tmp_path / "s.csv")
    assert code == 0, said
    assert (tmp_path / "s.csv").read_text().count(".png") == 3


@pytest.mark.parametrize("name", ["wrong.npy", "x.txt", "none.npy", "two.npz"])
def test_nothing_is_written_of_what_cannot_be_scored(plane: Run, tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "wrong.npy", np.zeros((3, 5)))
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.zeros(1))
    (tmp_path / "x.txt").write_text("0")
    output = tmp_path / "scores.npy"
    code, said = command("score", plane.folder.path, tmp_path / name, "--output", output)
    assert code == 2, said
    assert not output.exists()


@pytest.mark.parametrize(
    ("condition", "error", "words"),
    [
        (None, ValueError, "condition is missing"),
        (np.array([0, 1]), TypeError, "condition is a ndarray; write a tensor"),
        (torch.tensor([0, 1, 2]), ValueError, r"shape \(3,\) for 2 samples"),
        (torch.tensor([0, 3]), ValueError, "label 3"),
        (torch.tensor([0.0, 1.0]), TypeError, "torch.float32"),
    ],
)
def test_conditions_that_are_none_are_refused(condition, error, words) -> None:
    block = RegularizedFlow(MLPField(2, (4,), classes=3), divergence=ExactDivergence())
    flow = MultiscaleFlow((2,), [Scale([block])])
    with pytest.raises(error, match=words):
        score_samples(flow, Event((2,)), torch.zeros(2, 2), condition=condition)


@pytest.mark.parametrize("double", [False, True])
def test_conditions_come_in_any_precision(double: bool) -> None:
    block = RegularizedFlow(MLPField(2, (4,), condition=1), divergence=ExactDivergence())
    flow = MultiscaleFlow((2,), [Scale([block])]).eval()
    flow, x, c = flow.double() if double else flow, torch.randn(3, 2), torch.randn(3, 1)
    found = [
        score_samples(flow, Event((2,)), x.to(dtype), condition=c.to(dtype)).log_prob
        for dtype in (torch.float32, torch.float64)
    ]
    torch.testing.assert_close(*found)


def test_random_nodes_are_noise_too() -> None:
    field = MLPField(2, (4,))
    for parameter in field.parameters():
        nn.init.normal_(parameter)
    nodes = Quadrature("stratified", nodes=2)
    block = RegularizedFlow(field, divergence=ExactDivergence(), eval_quadrature=nodes)
    flow = MultiscaleFlow((2,), [Scale([block])]).eval()
    assert bool((score_samples(flow, Event((2,)), torch.zeros(2, 2)).stderr > 0).all())


def test_conditions_come_in_any_precision_and_are_finite() -> None:
    block = RegularizedFlow(MLPField(2, (4,), condition=1), divergence=ExactDivergence())
    flow, x = MultiscaleFlow((2,), [Scale([block])]), torch.zeros(2, 2)
    given = torch.ones(2, 1)
    wanted = score_samples(flow, Event((2,), columns=1), x, condition=given).log_prob
    found = score_samples(flow, Event((2,), columns=1), x, condition=given.double()).log_prob
    assert torch.equal(found, wanted)
    given[1] = torch.nan
    with pytest.raises(ValueError, match=r"1 conditions .* sample 1"):
        score_samples(flow, Event((2,), columns=1), x, condition=given)


def test_arrays_may_be_in_another_machines_order_and_read_only(plane: Run) -> None:
    x = np.ones((3, 2))
    other = x.astype(">f8")
    other.setflags(write=False)
    assert torch.equal(plane.score(other).log_prob, plane.score(x).log_prob)


@pytest.mark.parametrize(
    ("text", "rows"),
    [("\ufeff1.0,2.0\n3,4\n", 2), ("a,b\n3,4\n", 1), ("0,1\n3.0,4.0\n", 0), ("1,\n3,4\n", 0)],
)
def test_no_sample_of_a_text_is_lost_and_no_name_is_one(
    tmp_path: Path, text: str, rows: int
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text, encoding="utf-8")
    if rows:
        assert len(read_samples(path, Event((2,))).samples) == rows
        return
    with pytest.raises(DataError, match="a sample or names of columns"):
        read_samples(path, Event((2,)))


def test_scores_are_not_written_over_the_samples(plane: Run, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.ones((3, 2)))
    for output in (path, tmp_path / "there.npy"):
        (tmp_path / "there.npy").mkdir(exist_ok=True)
        code, said = command("score", plane.folder.path, path, "--output", output)
        assert code == 2, said
    assert np.load(path).shape == (3, 2)
