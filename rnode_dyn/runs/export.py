"""A trained flow written as a graph that runs without this package: torch.export's, or ONNX."""

import copy
import io
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from rnode_dyn.flows.as_functions import Arguments, LogDensity, Samples
from rnode_dyn.flows.conditions import refuse_extra, takes_condition
from rnode_dyn.flows.multiscale import MultiscaleFlow, as_multiscale
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.numerics.seeding import seeded
from rnode_dyn.numerics.stepping.fixed import FixedStep
from rnode_dyn.numerics.transforms import tracing
from rnode_dyn.recipe.build import describe_event
from rnode_dyn.runs.durable import write_whole
from rnode_dyn.runs.errors import ExportError
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.weights import load_flow

Function = Literal["log_prob", "sample"]
_FORMATS = {".pt2": "torch", ".onnx": "onnx"}

_FUNCTIONS = {"log_prob": LogDensity, "sample": Samples}
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_TRACED, _TRIED = 5, 7  # samples: of the trace, and of the comparison
_EXPORTERS = {"torch": "torch.export", "onnx": "torch's exporter to ONNX"}
_TOLERANCE = {"torch": 1e-6, "onnx": 1e-4}


class Export(NamedTuple):
    """What was written.

    Attributes:
        path: The file.
        inputs: Names and shapes of the arguments, the batch of any size as ``None``.
        gap: How far the file's results were from the flow's on samples of its own, the largest
            difference relative to 1 + |value|.
    """

    path: Path
    inputs: dict[str, tuple[int | None, ...]]
    gap: float


def export_flow(
    flow: MultiscaleFlow | RegularizedFlow,
    path: str | Path,
    function: Function = "log_prob",
    *,
    step: float | None = None,
    event_shape: Sequence[int] | None = None,
    condition: Tensor | None = None,
) -> Export:
    """Write a flow's log-density, or its map from noise to samples, as a graph of its own.

    The graph has the solver's steps written out one after another, so that they have to be fixed.
    It takes batches of any size, and is what the flow computes in evaluation mode; before anything
    is written the two are compared. ``log_prob`` takes x, and ``sample`` takes z ~ N(0, I),
    ``(batch, dimension)``; a conditional flow's take the condition next, and of a label that is no
    class the results are NaN. Where the divergence is Hutchinson's, ``log_prob`` takes its noise
    too, ``(batch, width)``, and is an estimate then.

    Args:
        flow: The flow.
        path: The file: ``.pt2`` for ``torch.export.load``, ``.onnx`` for ONNX; one that is there
            is replaced.
        function: ``"log_prob"`` or ``"sample"``.
        step: Length of fixed steps to take instead of the flow's own, by the same method.
        event_shape: Shape of a sample, where the flow is no :class:`~rnode_dyn.MultiscaleFlow`.
        condition: Of a conditional flow, a row or more of conditions to try it with.

    Raises:
        ValueError: if an argument is none, or the flow's steps are adaptive.
        TypeError: if it is no flow, or one whose divergence cannot be exported.
        ExportError: if packages are missing, torch cannot carry the flow, or what it makes of it
            computes something else. Nothing is written.

    Example:
        >>> import tempfile
        >>> from rnode_dyn import RK4, ExactDivergence, MLPField, Solver
        >>> flow = RegularizedFlow(MLPField(2), Solver(RK4(), FixedStep(0.5)), ExactDivergence())
        >>> file = Path(tempfile.mkdtemp()) / "flow.pt2"
        >>> export_flow(flow, file, event_shape=(2,)).inputs
        {'x': (None, 2)}
        >>> log_prob = torch.export.load(file).module()
        >>> log_prob(torch.zeros(3, 2))
        tensor([-1.8379, -1.8379, -1.8379])
    """
    path = Path(path)
    kind = checked_format(path, function)
    model = _as_exported(flow, event_shape, condition)
    fix_steps(model, step)
    module = _FUNCTIONS[function](model).eval().requires_grad_(False)
    with seeded(torch.device("cpu"), 0):
        traced, tried = module.arguments(_TRACED, condition), module.arguments(_TRIED, condition)
    wanted = _computed(module, tried)
    data, found = _carried(kind, module, traced, tried)
    gap = float(((found - wanted).abs() / (1 + wanted.abs())).max())
    if not gap <= _TOLERANCE[kind]:
        raise ExportError(
            f"what was exported differs from the flow by {gap:.2g}, relative to 1 + |value|: a "
            "field whose branches depend on values, or which draws random numbers, cannot be "
            "exported. Nothing was written."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)
    return Export(path, {k: (None, *v.shape[1:]) for k, v in traced.items()}, gap)


def export_run(
    folder: RunFolder,
    path: Path,
    function: Function,
    *,
    step: float | None = None,
    checkpoint: str | None = None,
    tell: Callable[[str], None] = warnings.warn,
) -> Export:
    """Export a run's flow, as :func:`export_flow` does; what cannot be is refused first.

    Args:
        folder: The run.
        path: The file.
        function: Which function.
        step: Length of fixed steps, where the run's own are adaptive.
        checkpoint: Which weights, as for :meth:`RunFolder.checkpoint`.
        tell: Takes what is to be said of the run's recipe.
    """
    checked_format(path, function)
    recipe, flow = load_flow(folder, checkpoint, tell=tell)
    event, condition = describe_event(recipe), None
    if event.classes is not None:
        condition = torch.arange(event.classes)
    elif event.columns is not None:
        condition = torch.zeros(1, event.columns)
    return export_flow(flow, path, function, step=step, condition=condition)


def checked_format(path: Path, function: str) -> str:
    """Return which format a file's name asks for; refuse what cannot be written.

    Raises:
        ValueError: if there is no such function, or no such format.
        ExportError: if a package is missing.

    Example:
        >>> checked_format(Path("flow.pt2"), "sample")
        'torch'
    """
    if function not in get_args(Function):
        raise ValueError(f'function is {function!r}; write "log_prob" or "sample".')
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path} would be of no known format: its name must end in .pt2 or .onnx.")
    missing = [name for name in _ONNX_PACKAGES if kind == "onnx" and find_spec(name) is None]
    if missing:
        raise ExportError(
            f"{' and '.join(missing)} is not installed, which ONNX takes: python -m pip install "
            "'rnode-dyn[onnx]'"
        )
    return kind


def _as_exported(
    flow: nn.Module, event_shape: Sequence[int] | None, condition: Tensor | None
) -> MultiscaleFlow:
    """Return a copy of the flow, on the CPU and in evaluation mode, to be made over."""
    if isinstance(flow, RegularizedFlow) and event_shape is None:
        raise ValueError("event_shape is missing: a single block does not know it; write (2,).")
    shape = event_shape if event_shape is not None else getattr(flow, "event_shape", ())
    own = getattr(flow, "event_shape", shape)
    if tuple(shape) != tuple(own):
        raise ValueError(
            f"event_shape is {tuple(shape)}, and the flow takes samples of shape {tuple(own)}: "
            "leave it out."
        )
    model = copy.deepcopy(as_multiscale(flow, tuple(shape))).cpu().eval()
    refuse_extra([model], condition)
    if condition is None and takes_condition(model):
        raise ValueError("the flow is conditional: write condition=…, one row or more.")
    return model


def fix_steps(model: MultiscaleFlow, step: float | None) -> None:
    """Let the blocks take fixed steps in evaluation mode, or see that they do.

    Raises:
        ValueError: if they are adaptive.
    """
    for block in model.blocks:
        solver = block.active_solver
        if step is not None:
            block.eval_solver = replace(solver, stepping=FixedStep(step))
        elif not isinstance(solver.stepping, FixedStep):
            raise ValueError(
                f"the flow is evaluated by {solver.algorithm} with {solver.stepping}, whose steps "
                "depend on the data, and those of a graph cannot: give the length of fixed steps, "
                "step=0.05."
            )
        if block.eval_quadrature.is_random:
            raise ValueError(
                f"the flow's eval_quadrature is {block.eval_quadrature}, drawn anew for every "
                'solve, and a graph would keep one draw: write Quadrature("gauss", nodes=4).'
            )


@torch.no_grad()
def _computed(module: nn.Module, arguments: Arguments) -> Tensor:
    return module(*arguments.values())


@torch.no_grad()
def _carried(
    kind: str, module: nn.Module, traced: Arguments, tried: Arguments
) -> tuple[bytes, Tensor]:
    """Return what the file will hold, and what it computes."""
    try:
        return _WRITERS[kind](_traced(module, traced), tried)
    except Exception as error:
        # Whatever a field does that torch cannot follow arrives here, as any kind of error.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(
            f"{_EXPORTERS[kind]} cannot carry this flow ({lines[0]}). Nothing was written."
        ) from error


def _traced(module: nn.Module, arguments: Arguments) -> Any:
    """Let torch write down what the module computes, for batches of any size.

    torch.export loses what the formulas of gradients keep of results, such as those of tanh and of
    norms. Then the gradients' own operations are written down first.
    """
    shapes, batch = torch.export.ShapesCollection(), torch.export.Dim("batch")
    for given in arguments.values():
        shapes[given] = {0: batch}
    given = tuple(arguments.values())
    ways: dict[str, Any] = {"dynamic_shapes": shapes, "strict": False}
    exported = partial(torch.export.export, args=given, **ways)
    try:
        return exported(module)
    except Exception:
        with suppress(Exception):
            return exported(_operations_of(module, given))
        raise  # what is said of the module itself, and not of a detour that nobody asked for


def _operations_of(module: nn.Module, given: tuple[Tensor, ...]) -> nn.Module:
    """Return what a module computes as a graph of operations, those of its gradients among them."""
    with tracing():
        return make_fx(module, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*given)


def _as_torch(program: Any, arguments: Arguments) -> tuple[bytes, Tensor]:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    return buffer.getvalue(), torch.export.load(buffer).module()(*arguments.values())


def _as_onnx(program: Any, arguments: Arguments) -> tuple[bytes, Tensor]:
    """Translate, and compute by onnxruntime."""
    import onnxruntime

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own exporter, about itself
        translated = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=list(arguments)
        )
    assert translated is not None
    data = translated.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    rows = {name: value.numpy() for name, value in arguments.items()}
    return data, torch.from_numpy(np.asarray(session.run(None, rows)[0]))


_WRITERS = {"torch": _as_torch, "onnx": _as_onnx}
