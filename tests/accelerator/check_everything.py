"""Every public name is checked on the device, or is said to have nothing to do with one."""

import ast
from pathlib import Path

import rnode_dyn

HERE = Path(__file__).parent

# They read files, choose words, or are what others are made of; no tensor of a device meets them.
WITHOUT_A_DEVICE = {
    "DataError",
    "DataWarning",
    "DivergedError",
    "LostProcessError",
    "RunWarning",
    "SaveError",
    "Export",
    "ExportError",
    "export_flow",  # copies the flow to the CPU first
    "best_threads",
    "MissingDataError",
    "RunError",
    "RecipeError",
    "load_data",
    "load_recipe",
    "build_model",
    "Evaluation",
    "LogProb",
    "FlowResult",
    "Bound",
    "SolveStats",
    "Solution",
    "Step",
    "StepLog",
    "StepRecord",
    "MaxSecondsError",
    "RunResult",
    "Run",
    "Score",
    "Importance",
    "FlowDensity",
    "ButcherTableau",
}
# Bases, whose every subclass is checked.
BASES = {
    "Algorithm",
    "Divergence",
    "ExplicitRungeKutta",
    "Objective",
    "Regularizer",
    "Sensitivity",
    "Transform",
}


def public_names() -> set[str]:
    stub = ast.parse(Path(rnode_dyn.__file__).with_name("__init__.pyi").read_text("utf-8"))
    imports = (node for node in stub.body if isinstance(node, ast.ImportFrom))
    return {alias.name for node in imports for alias in node.names}


def names_in(path: Path) -> set[str]:
    """The names that a file uses, other than to import them."""
    tree = ast.parse(path.read_text("utf-8"))
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_every_public_name_has_a_check() -> None:
    files = [*HERE.glob("check_*.py"), HERE / "models.py", HERE / "lightning.py"]
    used = set().union(*map(names_in, [*files, HERE.parent / "flows" / "cases.py"]))
    unchecked = public_names() - used - WITHOUT_A_DEVICE - BASES
    assert not unchecked, (
        f"{sorted(unchecked)}: write a check on the stand-in for it, or say in WITHOUT_A_DEVICE "
        "that it has nothing to do with devices."
    )


def test_the_lists_hold_public_names_only() -> None:
    assert public_names() >= (WITHOUT_A_DEVICE | BASES)
