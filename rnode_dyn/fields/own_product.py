"""Whether a field's own vector-Jacobian product is the derivative of what is called.

``value_and_vjp`` is faster than autograd, and belongs to the ``forward`` that its author had
before him. A subclass, a hook or another layer changes the one and not the other, and a flow would
follow one field with the log-determinant of another.
"""

import copy
import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from rnode_dyn.fields.as_field import CalledField
from rnode_dyn.fields.compiled import product_of
from rnode_dyn.fields.condition import ConditionEmbedding
from rnode_dyn.fields.conditioned import Conditioned
from rnode_dyn.numerics.at_times import Wrapped
from rnode_dyn.numerics.calling import handed_the_time, timed_parts
from rnode_dyn.numerics.seeding import reseed, seeded
from rnode_dyn.numerics.transforms import within_transform

_NAME = "value_and_vjp"
_CONDITION = "condition"
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

OwnProduct = Callable[..., tuple[Tensor, Tensor]]

# Of each field, the structures that were tried, and whether the product was right.
_TRIED: WeakKeyDictionary[nn.Module, dict[Any, bool]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class FieldWithProduct(Wrapped):
    """A field, and a vector-Jacobian product that is known to be its own.

    Attributes:
        field: f(t, x).
        product: (t, x, v) → (f(t, x), vᵀ ∂f/∂x).
    """

    field: Callable[[Tensor, Tensor], Tensor]
    product: OwnProduct

    @property
    def written(self) -> Callable:
        """The field without its product."""
        return self.field.written if isinstance(self.field, Wrapped) else self.field

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """Evaluate the field."""
        return self.field(t, x)

    def of_samples(self, samples: Tensor) -> "FieldWithProduct":
        """Return the same for the samples at these places of the batch."""
        if not isinstance(self.field, Conditioned):
            return self
        part = self.field.of_samples(samples)
        return FieldWithProduct(part, functools.partial(self.product, condition=part.given))


def with_own_product(field: Callable, x: Tensor) -> Callable:
    """Return a field with the product that it brings, where that is the field's derivative.

    That is found out once for every structure of a field that is not the package's own, by
    comparing with autograd: on a copy whose parameters are moved at random, since a field that is
    zero to begin with agrees with everything, and on a single sample.

    Args:
        field: The field, as the flow calls it; or the pair of it and its condition.
        x: States, ``(batch, *event)``.
    """
    pair = field if isinstance(field, Conditioned) else None
    module = _written(field if pair is None else pair.field)
    if module is None:
        return field
    tried = _TRIED.setdefault(module, {})
    structure = (pair is not None, _structure(module))
    if structure not in tried:
        if within_transform():
            return field
        tried[structure] = _try(module, x, _first_of(pair, x))
    if not tried[structure]:
        return field
    parts, product = timed_parts(module), product_of(module, _NAME)
    product = _timed(product, parts) if parts else product
    if pair is not None:
        product = functools.partial(product, condition=pair.given)
    return FieldWithProduct(field, product)


def _first_of(pair: Conditioned | None, x: Tensor) -> dict[str, Any]:
    """The first sample's condition by name; nothing where there is none."""
    if pair is None:
        return {}
    return {_CONDITION: pair.of_samples(torch.zeros(1, dtype=torch.long, device=x.device)).given}


def _try(module: nn.Module, x: Tensor, named: dict[str, Any]) -> bool:
    """Whether a module's product can be trusted; says why where it cannot."""
    trouble = _structural_trouble(module)
    has_numbers = x.device.type != "meta"
    if trouble is None and has_numbers and not _is_of_this_package(module):
        trouble = _numerical_trouble(module, x, named)
    if trouble is not None:
        warnings.warn(
            f"{type(module).__name__}.{_NAME} is not used: {trouble}. Autograd's product is taken "
            f"instead, which is right and slower; write a {_NAME} for this forward.",
            stacklevel=2,
        )
    return trouble is None


def _timed(product: OwnProduct, parts: list[Any]) -> Callable[..., tuple[Tensor, Tensor]]:
    def timed(t: Tensor, x: Tensor, v: Tensor, **named: Any) -> tuple[Tensor, Tensor]:
        with handed_the_time(parts, t):
            return product(t, x, v, **named)

    return timed


def _written(field: Callable) -> nn.Module | None:
    """The module that brings a product of its own, without what we put around it."""
    module = field.module if isinstance(field, CalledField) else field
    if isinstance(module, nn.Module) and hasattr(type(module), _NAME):
        return module
    return None


def _structure(module: nn.Module) -> tuple:
    """What, besides its numbers, decides what a module computes."""
    parts = tuple(
        (type(part), "forward" in vars(part), *(len(vars(part)[hooks]) for hooks in _HOOKS))
        for part in module.modules()
    )
    return parts, module.training, _global_hooks()


def _global_hooks() -> int:
    return sum(len(getattr(torch_module, f"_global{hooks}")) for hooks in _HOOKS)


def _is_of_this_package(module: nn.Module) -> bool:
    """Whether all of its parts are ours, whose products the package's own tests compare.

    What embeds a condition may be made of anything: no product goes through it.
    """
    embeddings = [part for part in module.modules() if isinstance(part, ConditionEmbedding)]
    aside = {within for part in embeddings for within in part.modules()}
    kinds = {type(part) for part in module.modules() if part not in aside} - {nn.ModuleList}
    return all(kind.__module__.startswith(f"{__package__}.") for kind in kinds)


def _structural_trouble(module: nn.Module) -> str | None:
    """Why the product cannot be that of the ``forward`` which is called, if it is plain to see."""
    lineage = type(module).__mro__
    product = next(i for i, kind in enumerate(lineage) if _NAME in vars(kind))
    forward = next(i for i, kind in enumerate(lineage) if "forward" in vars(kind))
    if product > forward:
        return (
            f"{lineage[forward].__name__} overrides forward, and the product is that of "
            f"{lineage[product].__name__}"
        )
    if any("forward" in vars(part) for part in module.modules()):
        return "a forward has been replaced on an instance"
    if _global_hooks() or any(vars(part)[hooks] for part in module.modules() for hooks in _HOOKS):
        return "hooks are registered, which it may pass by"
    return None


def _numerical_trouble(module: nn.Module, x: Tensor, named: dict[str, Any]) -> str | None:
    try:
        # Copies made in inference mode could not be differentiated.
        with torch.inference_mode(False):
            error = _error(_moved(module), x[:1].clone(), named)
    except Exception as failure:  # whatever a user's code raises is no agreement
        return f"it could not be compared with autograd's ({type(failure).__name__}: {failure})"
    if error <= 10 * torch.finfo(x.dtype).eps ** 0.5:
        return None
    return f"it differs from autograd's by {error:.1e} of its size"


def _moved(module: nn.Module) -> nn.Module:
    """A copy with other parameters, drawn apart from everybody's random numbers."""
    moved = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in moved.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(0.1 * noise.to(parameter))
    return moved


def _error(module: nn.Module, x: Tensor, named: dict[str, Any]) -> float:
    """The largest error of value and product, relative to the largest entry.

    Args:
        module: The field.
        x: One sample.
        named: Its condition by name, or nothing.
    """
    generator = torch.Generator().manual_seed(1)
    offset, v = (torch.randn(x.shape, generator=generator).to(x) for _ in range(2))
    x, t = x.detach().clone().add_(offset, alpha=0.1), x.new_tensor(0.3)
    with (
        seeded(x.device, 0),
        torch.autocast(x.device.type, enabled=False),
        handed_the_time(timed_parts(module), t),
    ):
        with torch.enable_grad():
            value = module(t, x.requires_grad_(), **named)
            (product,) = torch.autograd.grad(value, x, v)
        reseed(x.device, 0)
        own_value, own = getattr(module, _NAME)(t, x.detach(), v, **named)
    return max(_gap(own_value, value), _gap(own, product))


def _gap(one: Tensor, other: Tensor) -> float:
    size = float(other.detach().abs().max())
    return float((one - other).detach().abs().max()) / max(size, torch.finfo(other.dtype).tiny)
