"""A field that overdoes its condition: away from what samples of any class do."""

from typing import Any

import torch
from torch import Tensor, nn

from rnode_dyn.fields.condition import NO_CLASS, ConditionEmbedding
from rnode_dyn.fields.conditioned import conditioned


class GuidedField(nn.Module):
    """g(t, x, c) = f(t, x, ∅) + scale · (f(t, x, c) − f(t, x, ∅)), ∅ being no class.

    Classifier-free guidance (Ho & Salimans 2022), which costs two evaluations of f. A scale of 1
    is f under its condition, 0 is f under none, and more than 1 goes beyond.

    Args:
        field: f, with a :class:`~rnode_dyn.ConditionEmbedding` of class labels that was trained
            with ``label_dropout``.
        scale: How far to go.

    Raises:
        ValueError: if the field does not know of samples without a class.

    Example:
        >>> from rnode_dyn import MLPField
        >>> field, x = MLPField(2, classes=3, label_dropout=0.1), torch.zeros(4, 2)
        >>> GuidedField(field, 2.0)(torch.tensor(0.5), x, torch.tensor([0, 1, 2, 0])).shape
        torch.Size([4, 2])
    """

    def __init__(self, field: nn.Module, scale: float) -> None:
        super().__init__()
        if not knows_no_class(field):
            raise ValueError(
                "guidance compares a class with none, and this field was built without "
                "label_dropout, so that it knows nothing of none: train one with it, in a recipe "
                "by model.condition.dropout = 0.1."
            )
        self.field, self.scale = field, scale

    def forward(
        self,
        t: Tensor,
        x: Tensor,
        condition: Tensor,
        args: Any = None,  # torchdyn's
    ) -> Tensor:
        """Evaluate the field at time ``t``, state ``x`` (batch, *event) and labels (batch,)."""
        given = conditioned(self.field, condition, x)(t, x)
        free = conditioned(self.field, torch.full_like(condition, NO_CLASS, dtype=torch.int64), x)(
            t, x
        )
        return free + self.scale * (given - free)


def knows_no_class(module: nn.Module) -> bool:
    """Whether a field, or each field of several, was built with ``label_dropout``.

    Example:
        >>> from rnode_dyn import MLPField
        >>> knows_no_class(MLPField(2, classes=3)), knows_no_class(MLPField(2))
        (False, False)
    """
    embeddings = [part for part in module.modules() if isinstance(part, ConditionEmbedding)]
    return bool(embeddings) and all(part.knows_no_class for part in embeddings)
