"""A file that was exported, read in a process of its own, computes what the flow computes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from rnode_dyn import (
    RK4,
    AdaptiveStep,
    Dopri5,
    Euler,
    ExactDivergence,
    ExportError,
    FixedStep,
    FlowDistribution,
    HutchinsonDivergence,
    MLPField,
    MultiscaleFlow,
    RegularizedFlow,
    ReversibleAdjoint,
    Run,
    Scale,
    Solver,
    Standardize,
    UNetField,
    export_flow,
    load_recipe,
    load_run,
    run,
)
from rnode_dyn.cli.app import app

FIXED = Solver(RK4(), FixedStep(0.5))
_FRESH = """
import json, sys, torch
path, given = sys.argv[1:]
rows = {k: torch.tensor(v) for k, v in json.loads(given).items()}
print(json.dumps(torch.export.load(path).module()(*rows.values()).tolist()))
print("rnode_dyn" in sys.modules)
"""


def built(divergence=None, solver=FIXED, **condition) -> MultiscaleFlow:
    torch.manual_seed(0)
    field = MLPField(3, hidden=(8,), **condition)
    for parameter in field.parameters():
        nn.init.normal_(parameter, std=0.4)
    block = RegularizedFlow(field, solver, divergence or ExactDivergence())
    units = Standardize(torch.ones(3), torch.tensor([1.0, 2.0, 0.5]))
    return MultiscaleFlow((3,), [Scale([block])], units).eval()


def in_a_fresh_process(path: Path, **arguments) -> torch.Tensor:
    given = json.dumps({name: value.tolist() for name, value in arguments.items()})
    told = subprocess.run(
        [sys.executable, "-c", _FRESH, str(path), given], capture_output=True, check=True, text=True
    )
    numbers, ours = told.stdout.splitlines()
    assert ours == "False"
    return torch.tensor(json.loads(numbers))


def test_a_file_computes_the_log_density_where_this_package_is_not(tmp_path):
    flow, x = built(), torch.randn(4, 3)
    export_flow(flow, tmp_path / "flow.pt2")
    wanted = FlowDistribution(flow, (3,)).log_prob(x)
    found = in_a_fresh_process(tmp_path / "flow.pt2", x=x)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_a_file_computes_samples_under_conditions(tmp_path):
    flow, z, labels = built(classes=5), torch.randn(2, 3), torch.tensor([4, 1])
    given = torch.arange(5)
    made = export_flow(flow, tmp_path / "flow.pt2", "sample", condition=given)
    assert made.inputs == {"z": (None, 3), "condition": (None,)}
    program = torch.export.load(tmp_path / "flow.pt2").module()
    torch.testing.assert_close(
        program(z, labels), flow.generate(z, condition=labels), rtol=1e-6, atol=1e-6
    )


def test_the_noise_of_an_estimate_is_an_argument(tmp_path):
    flow = built(HutchinsonDivergence(probes=2))
    made = export_flow(flow, tmp_path / "flow.pt2")
    assert made.inputs == {"x": (None, 3), "noise": (None, 6)}
    program = torch.export.load(tmp_path / "flow.pt2").module()
    x, noise = torch.randn(1, 3).expand(4000, 3).clone(), torch.randn(4000, 6)
    estimates = program(x, noise)
    flow.blocks[0].eval_divergence = ExactDivergence()
    exact = FlowDistribution(flow, (3,)).log_prob(x[:1])
    error = estimates.std() / 4000**0.5
    assert error > 0
    assert abs(estimates.mean() - exact[0]) < 4 * error


@pytest.mark.slow
def test_exporting_leaves_the_flow_as_it_was(tmp_path):
    flow = built(HutchinsonDivergence()).train()
    export_flow(flow, tmp_path / "flow.pt2", step=1.0)
    assert flow.training
    assert flow.blocks[0].eval_divergence is None
    assert flow.blocks[0].active_solver == FIXED
    assert all(parameter.requires_grad for parameter in flow.parameters())


@pytest.mark.slow
def test_the_solver_of_a_sensitivity_with_a_pair_of_states_is_carried_too(tmp_path):
    flow = built(solver=Solver(RK4(), FixedStep(0.5), ReversibleAdjoint()))
    assert export_flow(flow, tmp_path / "flow.pt2").gap < 1e-6


def test_an_adaptive_solver_is_refused_by_name(tmp_path):
    flow, file = built(solver=Solver(Dopri5(), AdaptiveStep())), tmp_path / "flow.pt2"
    with pytest.raises(ValueError, match=r"Dopri5\(\) with AdaptiveStep.*step=0.05"):
        export_flow(flow, file)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("flow.bin", {}, ".pt2 or .onnx"),
        ("flow.pt2", {"function": "score"}, '"log_prob" or "sample"'),
        ("flow.pt2", {"condition": torch.zeros(1, 2)}, "no part of this flow takes one"),
        ("flow.pt2", {"step": 0.0}, "FixedStep"),
        ("flow.pt2", {"event_shape": (2,)}, r"takes samples of shape \(3,\): leave it out"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(tmp_path, name, options, said):
    with pytest.raises(ValueError, match=said):
        export_flow(built(), tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_a_conditional_flow_asks_for_conditions(tmp_path):
    with pytest.raises(ValueError, match="the flow is conditional: write condition="):
        export_flow(built(classes=5), tmp_path / "flow.pt2")


@pytest.mark.slow
def test_a_label_that_is_no_class_has_no_density_in_a_graph(tmp_path):
    """The graph cannot refuse it, and took another class's row."""
    flow, labels = built(classes=5, label_dropout=0.1), torch.tensor([-2, -1, 4, 5, 6])
    export_flow(flow, tmp_path / "flow.pt2", condition=torch.arange(5))
    found = torch.export.load(tmp_path / "flow.pt2").module()(torch.ones(5, 3), labels)
    assert found.isnan().tolist() == [True, False, False, True, True]


class Branching(nn.Module):
    """A field whose path depends on a value."""

    def forward(self, t, x):
        return -x if bool((x > 0).any()) else x


def test_a_field_that_cannot_be_traced_is_refused(tmp_path):
    flow = RegularizedFlow(Branching(), FIXED, ExactDivergence())
    with pytest.raises(ExportError, match="cannot carry this flow"):
        export_flow(flow, tmp_path / "flow.pt2", "sample", event_shape=(3,))
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named_with_what_installs_them(tmp_path, monkeypatch):
    monkeypatch.setattr("rnode_dyn.runs.export.find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"rnode-dyn\[onnx\]"):
        export_flow(built(), tmp_path / "flow.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("divergence", [ExactDivergence(), HutchinsonDivergence()], ids=repr)
@pytest.mark.parametrize("function", ["log_prob", "sample"])
def test_onnx_computes_the_same(tmp_path, function, divergence):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    made = export_flow(built(divergence), tmp_path / "flow.onnx", function)
    assert made.gap < 1e-6


SMALL = ["train.max_steps=2", "data.train_size=64", "data.validation_size=20", "data.test_size=20"]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(run(load_recipe("moons", SMALL), tmp_path_factory.mktemp("plane")).folder)


def command(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(map(str, words)))
    return result.exit_code, " ".join(result.output.split())


def test_the_command_refuses_adaptive_steps_and_takes_fixed_ones(plane, tmp_path):
    file = tmp_path / "flow.pt2"
    file.write_text("what was there")
    code, said = command("export", plane.folder.path, "--output", file)
    assert code == 2
    assert "Dopri5() with AdaptiveStep" in said
    assert "first_step=None" in said
    assert "--step 0.05" in said
    assert "first_step=" in said
    assert file.read_text() == "what was there"
    code, said = command("export", plane.folder.path, "--output", file, "--step", 0.5)
    assert code == 0, said
    assert "log_prob(x (n, 2))" in said
    x = torch.randn(3, 2)
    for block in plane.flow.blocks:
        block.eval_solver = Solver(Dopri5(), FixedStep(0.5))
    wanted = plane.distribution().log_prob(x)
    found = torch.export.load(file).module()(x)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "onnx", "--output", "flow.pt2"], "must end in .onnx"),
        (["--format", "jax"], "torch"),
        (["--step", "0"], "FixedStep"),
        (["--step", "-1"], "FixedStep"),
        (["--step", "nan"], "FixedStep"),
    ],
)
def test_the_command_refuses_what_it_cannot_write(plane, options, said):
    code, told = command("export", plane.folder.path, *options)
    assert code == 2, told
    assert said in told
    assert not (plane.folder.path / "exports").exists()


class Own(nn.Module):
    """A field of a user's, whose gradients are autograd's."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, t, x):
        return self.layers(x)


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        (Own(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3)), (3,)),
        (Own(nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 3)), (3,)),
        (UNetField(1, width=8, levels=2), (1, 4, 4)),
    ],
    ids=["tanh", "layer norm", "U-Net"],
)
def test_gradients_that_keep_their_results_are_carried(tmp_path, field, shape):
    """torch.export loses them, and takes the operations of the gradients."""
    torch.manual_seed(0)
    for parameter in field.parameters():
        nn.init.normal_(parameter, std=0.2)
    solver = Solver(Euler(), FixedStep(1.0))
    block = RegularizedFlow(field, solver, HutchinsonDivergence())
    flow = MultiscaleFlow(shape, [Scale([block])]).eval()
    assert export_flow(flow, tmp_path / "flow.pt2").gap < 1e-6
