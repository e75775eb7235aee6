"""rnode_dyn.plot draws what it says into the axis it is given; notebooks show what there is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from PIL import Image

from rnode_dyn import (
    FlowDistribution,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    RunResult,
    Scale,
    load_recipe,
    load_run,
    plot,
    run,
)
from rnode_dyn.report.plane import draw_plane, draw_points, limit_of, trajectories
from tests.report.models import awake, multiscale


@pytest.fixture(autouse=True)
def _no_figure_stays():
    yield
    pyplot.close("all")


@pytest.fixture
def flow() -> RegularizedFlow:
    torch.manual_seed(0)
    return RegularizedFlow(awake(MLPField(2, (8,))))


@pytest.fixture
def axes() -> Axes:
    return pyplot.figure().subplots()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    small = ["train.max_steps=20", "data.train_size=64", "data.test_size=16"]
    return run(load_recipe("moons", small), tmp_path_factory.mktemp("run") / "moons")


def test_each_returns_the_axis_that_it_was_given(
    flow: RegularizedFlow, axes: Axes, finished: RunResult
) -> None:
    trained = load_run(finished.folder)
    for given in (
        plot.density(flow, ax=axes),
        plot.trajectories(flow, ax=axes),
        plot.field(flow, ax=axes),
        plot.samples(flow, ax=axes),
        plot.training_curve(trained, ax=axes),
        plot.pareto([trained, finished], ax=axes),
    ):
        assert given is axes


def test_without_an_axis_each_makes_its_own(flow: RegularizedFlow) -> None:
    assert plot.density(flow).figure is not plot.trajectories(flow).figure


def test_the_density_is_the_flows(flow: RegularizedFlow) -> None:
    (picture,) = plot.density(flow.eval(), limit=6.0).get_images()
    density = np.asarray(picture.get_array())
    assert density.mean() * 12**2 == pytest.approx(1.0, abs=0.02)


def test_panels_of_the_same_data_have_the_same_frame(flow: RegularizedFlow) -> None:
    data = torch.randn(200, 2)
    panels = [draw(flow, data=data) for draw in (plot.density, plot.trajectories, plot.field)]
    frames = {(*axes.get_xlim(), *axes.get_ylim()) for axes in panels}
    assert len(frames) == 1
    model = MultiscaleFlow((2,), [Scale([flow])])
    paths = trajectories(model, data[:60]).detach()
    assert float(paths.abs().max()) < limit_of(model, data)  # no path leaves the frame


def test_the_fields_arrows_are_its_values(flow: RegularizedFlow) -> None:
    (arrows,) = (c for c in plot.field(flow, 0.5, limit=2.0).collections if hasattr(c, "U"))
    places = torch.tensor(arrows.XY, dtype=torch.float32)
    with torch.no_grad():
        slopes = flow.field(torch.tensor(0.5), places)
    assert np.allclose(np.stack([arrows.U, arrows.V], 1), slopes.numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", ["flow", "multiscale", "distribution"])
def test_any_kind_of_flow_is_drawn_alike(flow: RegularizedFlow, kind: str) -> None:
    given = {
        "flow": flow,
        "multiscale": MultiscaleFlow((2,), [Scale([flow])]),
        "distribution": FlowDistribution(flow, (2,)),
    }[kind]
    offsets = plot.samples(given, 7, seed=3).collections[0].get_offsets()
    assert np.allclose(offsets, plot.samples(flow, 7, seed=3).collections[0].get_offsets())
    assert len(offsets) == 7


def test_drawing_leaves_the_flow_in_its_mode(flow: RegularizedFlow) -> None:
    for mode in (True, False):
        plot.density(flow.train(mode), limit=1.0)
        assert flow.training is mode


def test_samples_are_images_points_or_refused() -> None:
    (grid,) = plot.samples(multiscale(), 9).get_images()
    assert np.asarray(grid.get_array()).shape == (3 * 32 + 12, 3 * 32 + 12, 3)
    assert len(plot.samples(torch.randn(5, 2)).collections[0].get_offsets()) == 5
    with pytest.raises(ValueError, match="neither points"):
        plot.samples(torch.randn(5, 3))


def test_what_is_not_in_the_plane_is_refused_by_its_shape(flow: RegularizedFlow) -> None:
    with pytest.raises(ValueError, match=r"\(1, 8, 8\): plot.samples"):
        plot.density(multiscale())
    with pytest.raises(TypeError, match="a str is no flow"):
        plot.density("moons")
    with pytest.raises(ValueError, match="blocks 0 to 0"):
        plot.field(flow, block=1)


def test_a_curve_has_the_files_points(finished: RunResult) -> None:
    axes = plot.training_curve(finished.folder, figure="train/evaluations", against="steps")
    points = load_run(finished.folder).metrics
    drawn = axes.get_lines()[0].get_ydata()
    assert list(drawn) == [row["train/evaluations"] for row in points if "train/evaluations" in row]
    with pytest.raises(ValueError, match=r"no run has loss against seconds; there are .*stage"):
        plot.training_curve(finished, figure="loss")


def test_pareto_needs_figures_that_are_there(finished: RunResult) -> None:
    assert plot.pareto([finished, finished]).get_xlabel() == "evaluations"
    with pytest.raises(ValueError, match=r"moons.* has no bits; its figures are bits_per_dim, "):
        plot.pareto([finished], y="bits")


def test_one_picture_has_one_scale(flow: RegularizedFlow, tmp_path: Path, monkeypatch) -> None:
    model, frames = MultiscaleFlow((2,), [Scale([flow])]), []
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig",
        lambda figure, *_, **__: frames.append([a.get_xlim() + a.get_ylim() for a in figure.axes]),
    )
    draw_plane(model, torch.randn(50, 2), tmp_path / "a.png")
    draw_points(torch.randn(50, 2), 3 * torch.randn(9, 2), tmp_path / "b.png")
    assert [(len(panels), len(set(panels))) for panels in frames] == [(3, 1), (2, 1)]


def test_a_notebook_shows_costs_figures_and_what_is_said(
    flow: RegularizedFlow, finished: RunResult
) -> None:
    image = multiscale()
    shown = image._repr_html_()
    assert [f"<td>{shape}</td>" in shown for shape in ("1×8×8", "4×4×4", "2×4×4")] == [True] * 3
    assert "ConvField" in shown
    assert "operations per sample" in shown
    assert "MLPField" in flow._repr_html_()
    recipe = load_recipe("moons", ['title="<b>&"'])
    assert "&lt;b&gt;&amp;" in recipe._repr_html_()
    assert 'dataset = "moons"' in recipe._repr_html_()
    for html in (finished._repr_html_(), load_run(finished.folder)._repr_html_()):
        assert "bits per dim" in html
        assert "data:image/png;base64," in html


def test_a_field_that_shapes_do_not_tell_of_is_shown_without_costs() -> None:
    class Own(torch.nn.Module):
        def forward(self, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return x * float(x.sum())

    model = MultiscaleFlow((2,), [Scale([RegularizedFlow(Own())])])
    assert "<td>–</td>" in model._repr_html_()


def test_a_plane_flows_samples_are_a_picture_too(finished: RunResult, tmp_path: Path) -> None:
    import json

    from typer.testing import CliRunner

    from rnode_dyn.cli import app

    path = tmp_path / "drawn.npy"
    arguments = ["sample", str(finished.folder), "--output", str(path), "--json"]
    printed = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert (printed["file"], printed["picture"]) == (str(path), str(path.with_suffix(".png")))
    assert Image.open(path.with_suffix(".png")).width > 500


def test_a_conditional_flow_is_drawn_under_its_condition() -> None:
    torch.manual_seed(0)
    flow = RegularizedFlow(awake(MLPField(2, (8,), classes=3)))
    one, other = torch.tensor(0), torch.tensor(2)
    pictures = [
        np.asarray(plot.density(flow, limit=2.0, condition=label).get_images()[0].get_array())
        for label in (one, other)
    ]
    assert not np.allclose(*pictures)
    for draw in (plot.trajectories, plot.field, plot.samples):
        assert draw(flow, condition=one).has_data()
