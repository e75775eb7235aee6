"""A field at one time and state, and the products of its Jacobian there.

All of them are derivatives of one evaluation: random numbers are drawn once, buffers change once.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from rnode_dyn.fields.derivatives import AlongWatch, refuse_once_differentiable
from rnode_dyn.fields.own_product import FieldWithProduct, OwnProduct
from rnode_dyn.numerics.errors import SolverError, first_line
from rnode_dyn.numerics.sensitivity.anchor import recorded
from rnode_dyn.numerics.sensitivity.closures import unnamed_leaf
from rnode_dyn.numerics.slope import check_slope, check_unchanged, version_of
from rnode_dyn.numerics.transforms import is_batched, within_transform

# Takes a time step and a change of state, of which either may be None.
Push = Callable[[Tensor | None, Tensor], Tensor]


@dataclass(frozen=True)
class Linearized:
    """A field at one time and state.

    Attributes:
        value: f(t, x), like ``x``.
        pull: Takes v, like ``x``, to vᵀ ∂f/∂x.
        pull_many: Takes many of them, ``(n, batch, *event)``, to their products.
        push: Takes (dt, dx) to ∂f/∂t · dt + ∂f/∂x · dx, where it was asked for.
    """

    value: Tensor
    pull: Callable[[Tensor], Tensor]
    pull_many: Callable[[Tensor], Tensor]
    push: Push | None = None


def linearize(field: Callable, t: Tensor, x: Tensor, with_push: bool = False) -> Linearized:
    """Evaluate a field once, and get ready for products of its Jacobian.

    Args:
        field: The field, f(t, x).
        t: Time, 0-dim.
        x: State, ``(batch, *event)``.
        with_push: Whether ``push`` will be needed.

    Raises:
        RuntimeError: where autograd does not see through the field.

    Example:
        >>> x, v = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.0]])
        >>> at = linearize(lambda t, x: t * x**2, torch.tensor(3.0), x, with_push=True)
        >>> at.value, at.pull(v), at.push(torch.tensor(1.0), v)
        (tensor([[ 3., 12.]]), tensor([[6., 0.]]), tensor([[7., 4.]]))
    """
    if within_transform():
        return _by_transforms(field, t, x, with_push)
    return _Evaluation(field, t, x, with_push).linearized()


def value_and_products(
    field: Callable, t: Tensor, x: Tensor, probes: Tensor, with_push: bool = False
) -> tuple[Tensor, Tensor, Push | None]:
    """Return f(t, x), vᵀ ∂f/∂x for each v of ``probes``, ``(n, batch, *event)``, and the push.

    The field's own product serves where it has one that is its derivative, and no push is needed.

    Example:
        >>> x, v = torch.tensor([[1.0, 2.0]]), torch.tensor([[[1.0, 0.0]]])
        >>> value_and_products(lambda t, x: x**2, torch.zeros(()), x, v)[:2]
        (tensor([[1., 4.]]), tensor([[[2., 0.]]]))
    """
    if isinstance(field, FieldWithProduct) and not with_push:
        one, *others = probes.unbind()
        value, first = field.product(t, x, one)
        check_slope(value, x)
        more = (field.product(t, x, probe)[1] for probe in others)
        return value, torch.stack([first, *more]), None
    at = linearize(field, t, x, with_push)
    return at.value, torch.stack([at.pull(probe) for probe in probes]), at.push


def value_and_jacobian(
    field: Callable, t: Tensor, x: Tensor, with_push: bool = False
) -> tuple[Tensor, Tensor, Push | None]:
    """Return f(t, x), the Jacobian of each sample, ``(entries, batch, entries)``, and the push.

    The batch is never repeated: row i of every sample is the product with one cotangent, and all
    cotangents go through the field's one evaluation together. Where samples see each other (batch
    normalisation in training mode), each row of each sample has a cotangent of its own.

    Example:
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> value_and_jacobian(lambda t, x: x**2, torch.zeros(()), x)[1][:, 0]
        tensor([[2., 0.],
                [0., 4.]])
    """
    cotangents = _rows_and_probe(x)
    if isinstance(field, FieldWithProduct) and not with_push:
        found = _by_own_product(field.product, t, x, cotangents)
        if found is not None and not _samples_meet(found[1]):
            return found[0], found[1][:-1].flatten(2), None
    at = linearize(field, t, x, with_push)
    rows = at.pull_many(cotangents)
    rows = _rows_apart(at, x) if _samples_meet(rows) else rows[:-1].flatten(2)
    return at.value, rows, at.push


def _rows_and_probe(x: Tensor) -> Tensor:
    """A cotangent for each entry, the same for all samples, and at last one for one sample."""
    size = x[0].numel()
    rows = torch.eye(size, dtype=x.dtype, device=x.device)[:, None].expand(-1, x.shape[0], -1)
    probe = x.new_zeros(1, x.shape[0], size)
    probe[0, 0] = torch.cos(torch.arange(1, size + 1, dtype=x.dtype, device=x.device))
    return torch.cat([rows, probe]).reshape(-1, *x.shape)


def _samples_meet(products: Tensor) -> bool:
    """Whether the probe of the first sample found its way to another."""
    has_numbers = products.device.type != "meta" and not is_batched(products)
    return has_numbers and bool(products[-1, 1:].any())


def _rows_apart(at: Linearized, x: Tensor) -> Tensor:
    """The Jacobian of each sample by its own entries, one cotangent an entry of the batch."""
    batch, size = len(x), x[0].numel()
    cotangents = torch.eye(batch * size, dtype=x.dtype, device=x.device)
    rows = at.pull_many(cotangents.reshape(-1, *x.shape)).reshape(batch, size, batch, size)
    return rows.diagonal(dim1=0, dim2=2).permute(0, 2, 1)


def _by_own_product(
    product: OwnProduct, t: Tensor, x: Tensor, basis: Tensor
) -> tuple[Tensor, Tensor] | None:
    """The value and all products together; ``None`` where the product cannot be mapped so."""
    try:
        return torch.vmap(lambda v: product(t, x, v), out_dims=(None, 0))(basis)  # type: ignore[arg-type]
    except (RuntimeError, ValueError):
        return None


class _Evaluation:
    """One evaluation of a field that autograd has recorded.

    What is returned can be differentiated as far as anybody has asked for a gradient.
    """

    def __init__(self, field: Callable, t: Tensor, x: Tensor, with_push: bool) -> None:
        self.with_push = with_push
        self.recording = torch.is_grad_enabled()
        watch = AlongWatch() if with_push else None
        with torch.inference_mode(False), torch.enable_grad():
            t, self.x = t.clone() if t.is_inference() else t, self._own(x)
            self.t = self._own(t) if with_push else t
            version = version_of(self.x)
            with watch if watch is not None else nullcontext():
                self.value = field(self.t, self.x)
        check_slope(self.value, x)
        check_unchanged(self.x, version)
        # Where nobody else wants a gradient, what was recorded is for us alone.
        wanted = x.requires_grad or t.requires_grad
        self.recording = self.recording and (wanted or self._reaches_more())
        if watch is not None:
            refuse_once_differentiable(self.value, self.x)
        if watch is not None and self.recording:
            watch.refuse_third_derivatives()

    def _own(self, tensor: Tensor) -> Tensor:
        """An alias of a tensor to differentiate with respect to, which a field may use besides."""
        if tensor.is_inference():
            tensor = tensor.clone()
        if self.recording and tensor.requires_grad:
            return tensor.view_as(tensor)
        return recorded(tensor)

    def _reaches_more(self) -> bool:
        return unnamed_leaf(self.value, ()) is not None

    def linearized(self) -> Linearized:
        """The value and its derivatives."""
        value = self.value if self.recording else self.value.detach()
        push = self._push if self.with_push else None
        return Linearized(value, self._pull, self._pull_many, push)

    def _pull(self, v: Tensor) -> Tensor:
        return self._differentiate([self.value], [self.x], [v], self.recording)[0]

    def _pull_many(self, vs: Tensor) -> Tensor:
        try:
            return self._differentiate([self.value], [self.x], [vs], self.recording, many=True)[0]
        except RuntimeError:
            # Of what autograd cannot do for many at once, one at a time is right as well.
            return torch.stack([self._pull(v) for v in vs])

    def _push(self, dt: Tensor | None, dx: Tensor) -> Tensor:
        """Differentiate the product, which is linear in its cotangent, by that."""
        with torch.inference_mode(False), torch.enable_grad():
            v = recorded(torch.zeros_like(self.value))
            inputs, along = ([self.x], [dx]) if dt is None else ([self.x, self.t], [dx, dt])
            products = self._differentiate([self.value], inputs, [v], True)
            known = [(p, a) for p, a in zip(products, along, strict=True) if p.requires_grad]
            if not known:
                return torch.zeros_like(self.x)
            pulled, pushed = zip(*known, strict=True)
            return self._differentiate(list(pulled), [v], list(pushed), self.recording)[0]

    def _differentiate(
        self,
        outputs: list[Tensor],
        inputs: list[Tensor],
        grads: list[Tensor],
        record: bool,
        many: bool = False,
    ) -> list[Tensor]:
        """Autograd's gradients, zero for what was not used."""
        wanted = [(o, g) for o, g in zip(outputs, grads, strict=True) if o.requires_grad]
        shape = grads[0].shape[:1] if many else ()
        found: tuple[Tensor | None, ...] = (None,) * len(inputs)
        if wanted:
            out, given = ([pair[i] for pair in wanted] for i in (0, 1))
            found = _gradients(out, given, inputs, record, many)
        return [
            i.new_zeros((*shape, *i.shape)) if g is None else g
            for i, g in zip(inputs, found, strict=True)
        ]


def _gradients(
    outputs: list[Tensor], grads: list[Tensor], inputs: list[Tensor], record: bool, many: bool
) -> tuple[Tensor | None, ...]:
    try:
        return torch.autograd.grad(
            outputs,
            inputs,
            grads,
            create_graph=record,
            retain_graph=True,
            allow_unused=True,
            is_grads_batched=many,
        )
    except (SolverError, torch.OutOfMemoryError):
        raise
    except RuntimeError as error:
        raise RuntimeError(
            f"autograd cannot differentiate the field by its state ({first_line(error)}): write "
            "that part of the field in operations that it sees through; of torch's checkpoint, "
            "use_reentrant=False can be differentiated."
        ) from error


def _by_transforms(field: Callable, t: Tensor, x: Tensor, with_push: bool) -> Linearized:
    """The same by ``torch.func``, within whose transforms autograd itself cannot be asked."""
    value, pull, *_ = torch.func.vjp(lambda state: field(t, state), x)
    check_slope(value, x)

    def push(dt: Tensor | None, dx: Tensor) -> Tensor:
        dt = torch.zeros_like(t) if dt is None else dt
        return torch.func.jvp(field, (t, x), (dt, dx))[1]

    return Linearized(
        value,
        lambda v: pull(v)[0],
        lambda vs: torch.vmap(lambda v: pull(v)[0])(vs),
        push if with_push else None,
    )
