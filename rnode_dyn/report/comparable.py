"""What keeps the figures of several runs from being compared, in words."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from rnode_dyn.runs.record import RunRecord, labels

# Figures are comparable where these are the same: what was scored, and how.
_DATA = ("dataset", "variant", "image_size", "levels", "validation_size", "test_size")
_PROTOCOL = ("split", "samples", "levels", "dequantization", "solvers", "divergences")


def differences(runs: Sequence[RunRecord]) -> list[str]:
    """Return a line for all that was not the same when runs were scored.

    Example:
        >>> from pathlib import Path
        >>> from rnode_dyn.runs.folder import RunFolder
        >>> sizes = {"a": 100, "b": 250}
        >>> differences([
        ...     RunRecord(RunFolder(Path(p)), {"name": p, "data": {"test_size": n}}, None, ())
        ...     for p, n in sizes.items()
        ... ])
        ['data.test_size is not the same: a 100; b 250']
    """
    named = list(zip(labels(runs), runs, strict=True))
    measured = [(name, run) for name, run in named if _protocol(run)]
    lines = [_difference(named, "data", key, _data) for key in _DATA]
    lines += [_difference(measured, "protocol", key, _protocol) for key in _PROTOCOL]
    lines.append(
        _difference([(n, run) for n, run in named if run.summary], "figures", "units", _figures)
    )
    silent = [name for name, run in named if run.summary and not _protocol(run)]
    if silent:
        lines.append(f"how it was measured is not written down: {', '.join(silent)}")
    return [line for line in lines if line]


def _difference(
    runs: Sequence[tuple[str, RunRecord]],
    table: str,
    key: str,
    of: Callable[[RunRecord], dict[str, Any]],
) -> str | None:
    values = [(name, of(run).get(key)) for name, run in runs]
    if len({json.dumps(value, default=str) for _, value in values}) <= 1:
        return None
    listed = "; ".join(f"{name} {_words(value)}" for name, value in values)
    return f"{table}.{key} is not the same: {listed}"


def _data(run: RunRecord) -> dict[str, Any]:
    return run.recipe.get("data", {})


def _protocol(run: RunRecord) -> dict[str, Any]:
    return (run.summary or {}).get("protocol") or {}


def _figures(run: RunRecord) -> dict[str, str]:
    """In which units figures are: those of older runs are in what their tables came to."""
    taken_off = bool(_data(run).get("standardize"))
    given_back = (run.summary or {}).get("log_likelihood_nats_standardised") is not None
    return {"units": "of a deviation" if taken_off and not given_back else "of the data"}


def _words(value: Any) -> str:
    if value is None:
        return "does not say"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
