"""Many models of one kind solved as one problem: an ensemble."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_map

from rnode_dyn.numerics.calling import as_called
from rnode_dyn.numerics.problem import ODEProblem
from rnode_dyn.numerics.solution import Solution
from rnode_dyn.numerics.solve import Solver, solve_as
from rnode_dyn.numerics.structure import Structure

Stack = dict[str, Tensor]


class _Called(nn.Module):
    """A model called as f(t, x), however it was written."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        # In a tuple: as a module of its own it would be a second place of the same parameters.
        self.called = (as_called(model),)

    def forward(self, t: Tensor, x: Any) -> Any:
        return self.called[0](t, x)


class EnsembleField:
    """The field of all members at once, for states whose rows are member after member.

    Args:
        model: One of them; whatever of it is not in the stack is shared by all.
        stack: Parameters and buffers by name, each with the members first.
        rows: How many rows of the state belong to one member.
        chosen: The members that there are; all, where it is left out.
    """

    takes_times = True

    def __init__(
        self, model: nn.Module, stack: Stack, rows: int, chosen: Tensor | None = None
    ) -> None:
        self.model, self.stack, self.rows, self.chosen = model, stack, rows, chosen
        self.members = len(next(iter(stack.values())) if chosen is None else chosen)
        self.called = _Called(model)

    def __call__(self, t: Tensor, x: Any) -> Any:
        """Evaluate every member on rows of its own, at one time or at one for each row."""
        if t.dim() and self.rows > 1:
            every = torch.arange(self.members * self.rows, device=t.device)
            return self.of_samples(every)(t, x)
        grouped = tree_map(lambda leaf: leaf.unflatten(0, (self.members, self.rows)), x)
        by_member = 0 if t.dim() else None
        each = vmap(self._one, in_dims=(0, by_member, 0), randomness="different")
        return tree_map(lambda leaf: leaf.flatten(0, 1), each(self._named(), t, grouped))

    def _named(self) -> Stack:
        """The members' tensors; chosen anew each time, so that each evaluation's graph is whole."""
        chosen = self.chosen
        pairs = self.stack.items()
        return {f"model.{n}": x if chosen is None else x[chosen] for n, x in pairs}

    def _one(self, named: Stack, t: Tensor, x: Any) -> Any:
        return functional_call(self.called, named, (t, x))

    def of_samples(self, samples: Tensor) -> "EnsembleField":
        """Return the field of some rows of the whole state, each with its member's parameters."""
        members = samples // self.rows
        chosen = members if self.chosen is None else self.chosen[members]
        return EnsembleField(self.model, self.stack, 1, chosen)


def solve_ensemble(
    problem: ODEProblem,
    solver: Solver | None = None,
    parameters: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]] = (),
    save_at: Sequence[Any] | Tensor | None = None,
) -> Solution:
    """Solve a problem for many models at once, whose fields differ by their parameters alone.

    They are solved as one batch, member after member. Under fixed steps each member is solved as
    it would be alone; an adaptive stepping takes common steps, by the errors of all, unless every
    sample steps by itself, ``AdaptiveStep(per_sample=True)``.

    Args:
        problem: What to solve; its field is the model, a module, and its start is that of all.
        solver: How.
        parameters: What ``torch.func.stack_module_state(models)`` returns, parameters and buffers,
            or the parameters alone: tensors by their names in the model, each with the members
            first. What is not named is shared by all.
        save_at: Times to return the states at.

    Returns:
        A solution whose states have the members before the batch, ``(len(t), members, batch,
        *event)``, ``(members, batch, *event)`` when called with a time. Gradients reach the stack.

    Raises:
        TypeError: if the field is no module, or the parameters are no tensors by name.
        ValueError: if a name is not the model's, or the members of two tensors differ in number.
        SolverError: as :func:`solve`; sample ``i`` belongs to member ``i // batch``.

    Example:
        >>> from rnode_dyn import RK4, FixedStep
        >>> models = [nn.Linear(2, 2) for _ in range(5)]
        >>> stack = torch.func.stack_module_state(models)
        >>> problem = ODEProblem(models[0], torch.ones(3, 2), (0.0, 1.0))
        >>> solve_ensemble(problem, Solver(RK4(), FixedStep(0.5)), parameters=stack).x.shape
        torch.Size([2, 5, 3, 2])
    """
    if not isinstance(problem, ODEProblem):
        raise TypeError(f"problem is {problem!r}; write ODEProblem(model, x0, (t0, t1)).")
    model = _checked_model(problem.field)
    stack = _checked_stack(model, parameters)
    members = len(next(iter(stack.values())))
    together = ODEProblem(
        EnsembleField(model, stack, _batch_of(problem)),
        tree_map(lambda leaf: _repeated(leaf, members), problem.x0),
        problem.t_span,
        parameters=(*problem.known_tensors, *(p for p in stack.values() if p.requires_grad)),
        error_mask=problem.error_mask,
    )
    return solve_as(_by_member(problem, members), together, solver, save_at)


def _repeated(x0: Tensor, members: int) -> Tensor:
    return x0.expand(members, *x0.shape).flatten(0, 1)


def _batch_of(problem: ODEProblem) -> int:
    structure = problem.structure
    return len(problem.x0 if structure is None else structure.leaves_of(problem.x0)[0])


def _by_member(problem: ODEProblem, members: int) -> Callable[[Tensor], Any]:
    """How a state of all rows becomes one with the members first."""
    structure: Structure | None = problem.structure
    event = problem.x0.shape[1:] if structure is None else (sum(structure.sizes),)

    def regroup(x: Tensor) -> Any:
        at = x.dim() - len(event) - 1
        grouped = x.unflatten(at, (members, x.shape[at] // members))
        return grouped if structure is None else structure.unpack(grouped)

    return regroup


def _checked_model(model: object) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"problem.field is a {type(model).__name__}, and an ensemble is one of modules: write "
            "the model as an nn.Module, or map solve over its parameters, torch.vmap, under "
            "FixedStep(dt)."
        )
    return model


def _checked_stack(model: nn.Module, parameters: Any) -> Stack:
    given = [parameters] if isinstance(parameters, Mapping) else parameters
    is_named = isinstance(given, list | tuple) and all(isinstance(g, Mapping) for g in given)
    stack = {name: x for part in given for name, x in part.items()} if is_named else {}
    if not stack or not all(isinstance(x, Tensor) and x.dim() for x in stack.values()):
        raise TypeError(
            "parameters must be what torch.func.stack_module_state(models) returns: tensors by "
            "their names in the model, each with the members first."
        )
    _check_names(model, stack)
    return stack


def _check_names(model: nn.Module, stack: Stack) -> None:
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    first = next(iter(stack))
    for name, tensor in stack.items():
        if name not in own:
            raise ValueError(f"the model has no parameter {name!r}; it has {', '.join(own)}.")
        if tensor.shape[1:] != own[name].shape:
            raise ValueError(
                f"parameters[{name!r}] is of shape {tuple(tensor.shape)}, and the model's own of "
                f"shape {tuple(own[name].shape)}: write it with the members first, "
                f"{('members', *own[name].shape)}."
            )
        if len(tensor) != len(stack[first]):
            raise ValueError(
                f"parameters[{first!r}] is of {len(stack[first])} members and "
                f"parameters[{name!r}] of {len(tensor)}."
            )
