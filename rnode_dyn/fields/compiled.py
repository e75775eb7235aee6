"""Fields compiled for a while: what is called of them, and the products that they bring.

A compiled function can be differentiated once. A field's own product is written out in plain
operations, so that a likelihood differentiates it once; autograd's product of a compiled field
would have to be differentiated twice, which torch does not do.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import nn

_PRODUCTS: dict[int, Callable] = {}


def product_of(module: nn.Module, name: str) -> Callable:
    """Return a module's own product, compiled where that has been asked for."""
    return _PRODUCTS.get(id(module)) or getattr(module, name)


@contextmanager
def compiled_products(fields: Iterable[nn.Module], **options: Any) -> Iterator[None]:
    """Within this context, the fields' own products are compiled: for training by likelihood.

    Args:
        fields: Fields with a ``value_and_vjp``.
        options: Of ``torch.compile``.
    """
    products = {
        id(field): torch.compile(cast(Callable, field.value_and_vjp), **options) for field in fields
    }
    _PRODUCTS.update(products)
    try:
        yield
    finally:
        for number in products:
            _PRODUCTS.pop(number, None)


@contextmanager
def compiled_calls(fields: Iterable[nn.Module], **options: Any) -> Iterator[None]:
    """Within this context, what is called of the fields is compiled: for matching.

    Args:
        fields: The fields.
        options: Of ``torch.compile``.
    """
    with ExitStack() as undo:
        for field in fields:
            before = field._compiled_call_impl
            undo.callback(setattr, field, "_compiled_call_impl", before)
            field.compile(**options)
        yield
