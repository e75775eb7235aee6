"""The scripts under ``benchmarks``, brought in by their names."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark_named(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    if not BENCHMARKS.is_dir():
        pytest.skip("the benchmarks are not here: they are not installed with the package")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module
