"""What a field is told of its condition: a vector, or a class label, as one vector a sample."""

from typing import Any

import torch
from torch import Tensor, nn

from rnode_dyn.numerics.numbers import as_number, whole
from rnode_dyn.numerics.transforms import is_exporting, within_transform

NO_CLASS = -1
"""The label of samples of any class, where an embedding has learned what that is."""

_LABEL_WIDTH = 32


class ConditionEmbedding(nn.Module):
    """Turns conditions into vectors that a field's layers can add up.

    Vectors stay as they are, or go through two layers where ``width`` is given; class labels are
    looked up in a table. Bad conditions are refused by name before anything is computed.

    Args:
        condition: Numbers in a condition, which is then a floating tensor ``(batch, condition)``.
        classes: Classes, where conditions are labels instead: whole numbers ``(batch,)`` from 0
            to ``classes`` − 1.
        width: Numbers in the embedding; left out, those of the vector, or 32 for labels.
        label_dropout: How probably an objective leaves out the label of a training sample, which
            makes one flow of the densities with and without labels (Ho & Salimans 2022). With
            more than 0 the label −1 is that of no class, and :class:`~rnode_dyn.GuidedFlow` can
            be had.

    Raises:
        ValueError: if not one of ``condition`` and ``classes`` is given, or a number is none.

    Example:
        >>> import torch
        >>> ConditionEmbedding(classes=10, width=8)(torch.tensor([3, 9])).shape
        torch.Size([2, 8])
    """

    def __init__(
        self,
        condition: int | None = None,
        classes: int | None = None,
        width: int | None = None,
        label_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if (condition is None) == (classes is None):
            raise ValueError(
                f"ConditionEmbedding: condition is {condition!r} and classes is {classes!r}; write "
                "condition=k for vectors of k numbers, or classes=n for n class labels."
            )
        self.columns = _count("condition", condition)
        self.classes = _count("classes", classes)
        self.label_dropout = _dropout(label_dropout, classes)
        wanted = _count("width", width)
        self.width = wanted or self.columns or _LABEL_WIDTH
        self.layers = nn.Sequential(*self._layers(wanted))

    def _layers(self, width: int | None) -> list[nn.Module]:
        if self.classes is not None:
            return [nn.Embedding(self.classes + self.knows_no_class, self.width)]
        if self.columns is None or width is None:
            return []
        return [nn.Linear(self.columns, width), nn.SiLU(), nn.Linear(width, width)]

    def forward(self, condition: Tensor) -> Tensor:
        """Embed conditions: vectors ``(batch, condition)`` or labels ``(batch,)``.

        Returns:
            Vectors, ``(batch, width)``.

        Raises:
            TypeError: if they are of another kind than declared.
            ValueError: if their shape does not fit, or a label is no class.
        """
        self.check(condition)
        return self.embed(condition)

    @property
    def knows_no_class(self) -> bool:
        """Whether −1 is a label, that of samples of any class."""
        return self.label_dropout > 0

    def embed(self, condition: Tensor) -> Tensor:
        """Embed conditions that have been checked; labels that cannot be read become NaN if bad."""
        if self.classes is None:
            return self.layers(condition)
        # The row of no class is the last, where −1 comes to.
        labels = condition.long()
        known = labels.remainder(self.classes + 1) if self.knows_no_class else labels
        rows = self.layers(known)
        if not _hides_numbers():
            return rows
        # Another class's row would be taken, by the remainder or by ONNX for a negative label.
        is_label = (labels >= self._first_label) & (labels < self.classes)
        return torch.where(is_label[:, None], rows, torch.nan)

    @property
    def _first_label(self) -> int:
        return NO_CLASS if self.knows_no_class else 0

    def check(self, condition: object) -> None:
        """Refuse what is no condition of this kind, as :meth:`forward` does."""
        if not isinstance(condition, Tensor):
            raise TypeError(
                f"condition is a {type(condition).__name__}; this field takes {self.wanted}."
            )
        if self.classes is None:
            self._check_vectors(condition)
        else:
            _check_labels(condition, self._first_label, self.classes, self.wanted)

    def _check_vectors(self, condition: Tensor) -> None:
        if not condition.is_floating_point():
            raise TypeError(f"condition is {condition.dtype}; this field takes {self.wanted}.")
        if condition.dim() != 2 or condition.shape[1] != self.columns:
            raise ValueError(
                f"condition has shape {tuple(condition.shape)}; this field takes {self.wanted}."
            )

    def zeros(self, batch: int, device: torch.device) -> Tensor:
        """Return so many conditions of this kind, all zero: what costs are counted with.

        Example:
            >>> ConditionEmbedding(classes=3).zeros(2, torch.device("cpu"))
            tensor([0, 0])
        """
        if self.columns is None:
            return torch.zeros(batch, dtype=torch.int64, device=device)
        return torch.zeros(batch, self.columns, device=device)

    @property
    def wanted(self) -> str:
        """What a condition has to be, in words."""
        if self.classes is not None:
            any_class = f" ({NO_CLASS}: any class)" if self.knows_no_class else ""
            return (
                f"class labels from 0 to {self.classes - 1}{any_class}: a tensor (batch,) of "
                "whole numbers, torch.int64"
            )
        return f"vectors of {self.columns} numbers: a floating tensor (batch, {self.columns})"

    def extra_repr(self) -> str:
        """Show the kind and the width."""
        kind = f"condition={self.columns}" if self.classes is None else f"classes={self.classes}"
        dropout = f", label_dropout={self.label_dropout:g}" if self.knows_no_class else ""
        return f"{kind}, width={self.width}{dropout}"


def _hides_numbers() -> bool:
    return within_transform() or is_exporting()


def _count(name: str, value: Any) -> int | None:
    return None if value is None else whole("ConditionEmbedding", name, value)


def _dropout(value: Any, classes: int | None) -> float:
    number = as_number(value)
    if number is None or not 0 <= number < 1:
        raise ValueError(
            f"ConditionEmbedding: label_dropout is {value!r}; write a number from 0 to below 1, "
            "such as 0.1."
        )
    if number and classes is None:
        raise ValueError(
            f"ConditionEmbedding: label_dropout is {value!r}, and conditions are vectors: it is "
            "for class labels; leave it out."
        )
    return float(number)


def _check_labels(labels: Tensor, first: int, classes: int, wanted: str) -> None:
    if labels.is_floating_point() or labels.is_complex() or labels.dtype is torch.bool:
        raise TypeError(f"condition is {labels.dtype}; this field takes {wanted}.")
    if labels.dim() != 1:
        raise ValueError(f"condition has shape {tuple(labels.shape)}; this field takes {wanted}.")
    if labels.is_meta or _hides_numbers():
        return  # no number can be read
    # Of bytes, which do not compare with numbers below 0 as they should.
    wide = labels.long()
    outside = wide[(wide < first) | (wide >= classes)]
    if len(outside):
        raise ValueError(f"condition holds the label {int(outside[0])}; this field takes {wanted}.")


def embedding_for(
    condition: int | None,
    classes: int | None,
    width: int | None = None,
    label_dropout: float = 0.0,
) -> ConditionEmbedding | None:
    """The embedding of a field that declares ``condition`` or ``classes``; ``None`` for neither.

    Example:
        >>> embedding_for(None, None) is None, embedding_for(3, None)
        (True, ConditionEmbedding(
          condition=3, width=3
          (layers): Sequential()
        ))
    """
    if condition is None and classes is None and not label_dropout:
        return None
    return ConditionEmbedding(condition, classes, width, label_dropout)


def embedded(
    embedding: ConditionEmbedding | None, condition: Tensor | None, x: Tensor
) -> Tensor | None:
    """Embed the condition of a field that may have none; ``None`` where it has none.

    Args:
        embedding: The field's, or ``None`` where it declares no condition.
        condition: What it was given, or ``None``.
        x: The states that it belongs to, ``(batch, *event)``.

    Raises:
        TypeError: if it is of another kind than declared.
        ValueError: if it is missing or one too many, or does not fit.

    Example:
        >>> import torch
        >>> embedded(embedding_for(2, None), None, torch.zeros(3, 1))
        Traceback (most recent call last):
        ValueError: the condition is missing: this field takes vectors of 2 numbers: a floating ...
    """
    if embedding is None:
        if condition is not None:
            raise ValueError(
                "a condition was given, and this field takes none: leave it out, or build the "
                "field with condition=k for vectors of k numbers, classes=n for n class labels."
            )
        return None
    if condition is None:
        raise ValueError(
            f"the condition is missing: this field takes {embedding.wanted}; write condition=…."
        )
    check_rows(condition, x)
    embedding.check(condition)
    mixed = embedding.classes is None and condition.dtype != x.dtype
    if mixed and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(
            f"the condition is {condition.dtype} and the samples {x.dtype}: write "
            f"condition.to({x.dtype})."
        )
    return embedding.embed(condition)


def check_rows(condition: object, x: Tensor) -> None:
    """Refuse what is no tensor with a row for every sample, where the samples are.

    Args:
        condition: What was given.
        x: The states, ``(batch, *event)``.

    Raises:
        TypeError: if it is no tensor.
        ValueError: if it has another number of rows, or is on another device.

    Example:
        >>> check_rows(torch.zeros(2, 5), torch.zeros(3, 1))
        Traceback (most recent call last):
        ValueError: condition has shape (2, 5) for 3 samples: write one row for each, such as ...
    """
    if not isinstance(condition, Tensor):
        raise TypeError(
            f"condition is a {type(condition).__name__}; write a tensor, one row a sample: "
            "torch.as_tensor(condition)."
        )
    if condition.dim() == 0 or condition.shape[0] != x.shape[0]:
        raise ValueError(
            f"condition has shape {tuple(condition.shape)} for {len(x)} samples: write one row for "
            f"each, such as condition.expand({len(x)}, …)."
        )
    if condition.device != x.device:
        raise ValueError(
            f"the condition is on {condition.device} and the samples on {x.device}: write "
            f'condition.to("{x.device}").'
        )
