"""What tells one data set from another: counts, shapes, and a digest of some samples."""

from hashlib import sha256
from typing import Any

from rnode_dyn.data.splits import SPLIT_NAMES, Split, Splits

_SAMPLES = 16


def fingerprint(splits: Splits) -> dict[str, dict[str, Any]]:
    """Return the fingerprint of each split, in plain values.

    Example:
        >>> from rnode_dyn.data import load_data
        >>> digits = fingerprint(load_data("digits", train_size=100))
        >>> digits["train"]["count"], digits["train"]["shape"], digits["train"]["levels"]
        (100, [1, 8, 8], 17)
        >>> digits == fingerprint(load_data("digits", train_size=100))
        True
    """
    return {name: _of(getattr(splits, name), splits) for name in SPLIT_NAMES}


def other_data(before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> str | None:
    """Say in what the data differ; ``None`` where they do not.

    Example:
        >>> one = {"train": {"count": 5, "digest": "ab"}}
        >>> other_data(one, {"train": {"count": 6, "digest": "ab"}})
        'the train split has count 6, and had 5'
        >>> other_data(one, {"train": {"count": 5, "digest": "cd"}})
        'the train split has other samples'
    """
    for split, facts in now.items():
        for name, value in facts.items():
            was = before.get(split, {}).get(name, value)
            if was != value and name == "digest":
                return f"the {split} split has other samples"
            if was != value:
                return f"the {split} split has {name} {value}, and had {was}"
    return None


def _of(split: Split, splits: Splits) -> dict[str, Any]:
    count = len(split)
    facts = {"count": count, "shape": list(splits.event_shape), "levels": splits.levels}
    return {**facts, "digest": _digest(split) if count else ""}


def _digest(split: Split) -> str:
    """A digest of samples from all over the split."""
    wanted = min(_SAMPLES, len(split))
    samples = split.__getitems__([k * len(split) // wanted for k in range(wanted)])
    return sha256(samples.contiguous().numpy().tobytes()).hexdigest()
