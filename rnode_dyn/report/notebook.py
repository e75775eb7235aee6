"""What a notebook shows of a flow, a recipe and a run, as HTML."""

from typing import Any, Protocol
from xml.etree.ElementTree import Element, SubElement, tostring

import tomli_w
from torch import nn

from rnode_dyn.costs.architecture import count_parameters, evaluations_per_solve
from rnode_dyn.costs.cost import BlockCost, training_cost
from rnode_dyn.flows.multiscale import MultiscaleFlow
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.report.html import add_curves, add_figures, add_pictures
from rnode_dyn.report.page import add, add_rows
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.record import read_what_is_whole

_HEADS = (
    "block",
    "shape",
    "field",
    "parameters",
    "solver",
    "evaluations",
    "operations per sample and step",
)


class _HasFolder(Protocol):
    @property
    def folder(self) -> Any: ...


def multiscale_html(flow: MultiscaleFlow) -> str:
    """Show a flow's blocks, and what each costs in a training step."""
    costs = _costs(flow)
    rows = [
        _block_row(number, station.shape, station.flow, cost)
        for number, (station, cost) in enumerate(zip(flow.walk(), costs, strict=True))
    ]
    shape = "×".join(map(str, flow.event_shape))
    title = f"flow of {shape}, {count_parameters(flow):,} parameters, {len(rows)} blocks"
    return _shown(title, _table(_HEADS, rows))


def flow_html(flow: RegularizedFlow) -> str:
    """Show a block: its field, its solver, and evaluations where they are known."""
    parts = {
        "field": _name(flow.field),
        "parameters": f"{count_parameters(flow):,}",
        "solver": str(flow.solver),
        "evaluations in a solve": _count(evaluations_per_solve(flow.solver, flow.end_time)),
        "divergence": str(flow.divergence),
        "penalties": ", ".join(map(str, flow.regularizers)) or "none",
    }
    return _shown("continuous block", _table((), [list(row) for row in parts.items()]))


def recipe_html(recipe: Recipe) -> str:
    """Show what a recipe says other than the defaults."""
    said = recipe.model_dump(exclude_defaults=True, exclude_none=True)
    text = Element("pre")
    text.text = tomli_w.dumps(said)
    return _shown(recipe.title or recipe.name, text)


def run_html(run: _HasFolder) -> str:
    """Show a run's figures, pictures and curves."""
    path = run.folder.path if isinstance(run.folder, RunFolder) else run.folder
    record = read_what_is_whole(RunFolder(path))
    body = Element("div")
    add_figures(body, record)
    add_pictures(body, record.folder.samples)
    add_curves(body, record)
    return _shown(f"run {path}", body)


def _shown(title: str, *parts: Element) -> str:
    div = Element("div")
    add(div, "strong", title)
    div.extend(parts)
    return tostring(div, encoding="unicode", method="html")


def _table(heads: tuple[str, ...], rows: list[list[str]]) -> Element:
    table = Element("table")
    if heads:
        head = SubElement(table, "tr")
        for name in heads:
            add(head, "th", name)
    add_rows(table, rows)
    return table


def _block_row(
    number: int, shape: tuple[int, ...], flow: RegularizedFlow, cost: BlockCost | None
) -> list[str]:
    return [
        str(number),
        "×".join(map(str, shape)),
        _name(flow.field),
        f"{count_parameters(flow):,}",
        flow.solver.algorithm.name,
        "–" if cost is None else f"{'about ' * cost.assumed}{cost.counts.forward + cost.nodes}",
        "–" if cost is None else f"{cost.step_flops:,}",
    ]


def _costs(flow: MultiscaleFlow) -> list[BlockCost | None]:
    """Each block's cost; ``None`` where a field cannot be counted by shapes alone."""
    try:
        return list(training_cost(flow).blocks)
    except Exception:  # a field of one's own may do anything with a tensor that has no values
        return [None] * len(flow.blocks)


def _name(field: nn.Module) -> str:
    return type(field).__name__


def _count(evaluations: int | None) -> str:
    return "as many as it takes" if evaluations is None else str(evaluations)
