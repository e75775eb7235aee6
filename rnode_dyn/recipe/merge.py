"""Lays one layer of a recipe over another: what the later one says holds."""

from collections.abc import Mapping
from typing import Any

from rnode_dyn.recipe.names import ADAPTIVE_KEYS, LENGTH_KEYS, PATH_KEYS, UNET_KEYS

_REPLACES: dict[str, tuple[str, ...]] = {
    "step": ADAPTIVE_KEYS,
    **dict.fromkeys(ADAPTIVE_KEYS, ("step",)),
    "scale": ("scales", "blocks"),
    "scales": ("scale",),
    "logit_alpha": ("bells",),
    "bells": ("logit_alpha",),
    "checksums": ("checksums",),  # as a whole: other files, or none
}
"""Keys that exclude others beside them: an inherited `step` goes when `rtol` is given."""

_OF_ONE_DATASET = (
    "variant",
    "channels",
    "columns",
    "standardize",
    "condition",
    "condition_columns",
    "on_bad_file",
    "train_size",
    "validation_size",
    "test_size",
    "checksums",
)
"""Keys that speak of one data set's files: inherited ones go when another data set is named."""


def overlay(base: Any, over: Any) -> Any:
    """`over` laid on `base`, key by key; what it excludes is dropped from `base`.

    Args:
        base: The earlier layer: tables, lists and plain values as TOML has them.
        over: The later layer. A table whose keys are list indices changes entries of a list.

    Example:
        >>> overlay({"solver": {"algorithm": "dopri5", "step": 0.1}}, {"solver": {"rtol": 1e-6}})
        {'solver': {'algorithm': 'dopri5', 'rtol': 1e-06}}
    """
    return update(_without_excluded(base, over), over)


def update(base: Any, over: Any) -> Any:
    """`over` laid on `base`, key by key, and nothing dropped.

    Example:
        >>> update({"scale": [{"blocks": 1}, {"blocks": 2}]}, {"scale": {"1": {"blocks": 3}}})
        {'scale': [{'blocks': 1}, {'blocks': 3}]}
    """
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return {**base, **{key: update(base.get(key), value) for key, value in over.items()}}
    if is_list_change(base, over):
        return [update(item, over.get(str(i), item)) for i, item in enumerate(base)]
    return over


def is_list_change(base: Any, over: Any) -> bool:
    """Whether `over` changes single entries of the list `base`."""
    indexed = isinstance(over, Mapping) and len(over) > 0 and all(map(str.isdigit, over))
    return isinstance(base, list) and indexed


def _without_excluded(base: Any, over: Any) -> Any:
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        excluded = _excluded_by(over)
        if over.get("dataset", base.get("dataset")) != base.get("dataset"):
            excluded.update(_OF_ONE_DATASET)
        if "stage" in over and _all_end(overlay(base.get("stage"), over["stage"])):
            excluded.update(LENGTH_KEYS)
        kept = {key: value for key, value in base.items() if key not in excluded}
        return {key: _without_excluded(value, over.get(key)) for key, value in kept.items()}
    if is_list_change(base, over):
        return [_without_excluded(item, over.get(str(i))) for i, item in enumerate(base)]
    return base


def _excluded_by(over: Mapping[str, Any]) -> set[str]:
    """The keys that have no meaning beside what `over` says."""
    excluded = {key for said in over for key in _REPLACES.get(said, ())}
    if over.get("estimator") == "exact":
        excluded |= {"noise", "probes"}
    if over.get("sensitivity", "checkpointed") != "checkpointed":
        excluded |= {"checkpoint_every"}
    if over.get("kind") is not None:
        excluded |= {"hidden"} if over["kind"] == "unet" else set(UNET_KEYS)
    if over.get("rule") == "stages":
        excluded |= {"nodes"}
    if over.get("objective") == "likelihood":
        excluded |= set(PATH_KEYS)
    return excluded


def _all_end(stages: Any) -> bool:
    """Whether every stage says itself when it ends, so that the training must not."""
    tables = stages if isinstance(stages, list) else []
    return len(tables) > 0 and all(
        isinstance(table, Mapping) and any(key in table for key in LENGTH_KEYS) for table in tables
    )
