"""Random modules made of the parts that trip adjoints up, under all five sensitivities.

Each is right as autograd has it through the unrolled reference, or refused with a sentence; one
that neither draws nor changes is never refused.
"""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from tests.contract.cells import SENSITIVITIES, Asked, Cell
from tests.contract.fields.case import CONTINUOUS, Case, Made, drawn, randomized, start, trained
from tests.contract.outcomes import outcome

WIDTH = 3


class Part(nn.Module):
    """A layer that may use the time, and what else it holds."""

    changes = False

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def forward(self, t: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(h)


class Linear(Part):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.linear = nn.Linear(WIDTH, WIDTH)
        if seed % 3 == 0:
            self.linear = parametrizations.weight_norm(self.linear)
        self.linear.requires_grad_(seed % 4 != 1)

    def forward(self, t: Tensor, h: Tensor) -> Tensor:
        return self.linear(h)


class Adapter(Part):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.down, self.up = nn.Linear(WIDTH, 1), nn.Linear(1, WIDTH)

    def forward(self, t: Tensor, h: Tensor) -> Tensor:
        return h + self.up(self.down(h))


class Activation(Part):
    def forward(self, t: Tensor, h: Tensor) -> Tensor:
        kinds = (torch.tanh, nn.functional.softplus, nn.functional.silu, torch.sin)
        return kinds[self.seed % 4](h)


class Dropout(Part):
    changes = True

    def forward(self, t: Tensor, h: Tensor) -> Tensor:
        return nn.functional.dropout(h, 0.2)


class Counting(Part):
    """Counts in a buffer, which some values depend on."""

    changes = True

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.register_buffer("count", torch.zeros(()))

    def forward(self, t: Tensor, h: Tensor) -> Tensor:
        self.count += 1
        return h * (1 + 1e-3 * self.count.clone()) if self.seed % 2 else h


class Scaled(Part):
    """By a buffer named t, which is no time."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.register_buffer("t", drawn(WIDTH, seed=seed))

    def forward(self, t: Tensor, h: Tensor) -> Tensor:
        return self.t * h


class Timed(Part):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.rate = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, t: Tensor, h: Tensor) -> Tensor:
        return h + torch.sin(t * self.rate + 0.3)


class Context(Part):
    """Held, a leaf or not, of one row or a row a sample."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        rows = (3, WIDTH) if seed % 2 else (WIDTH,)
        self.code = drawn(*rows, seed=seed).requires_grad_()
        self.context = self.code.exp() if seed % 4 > 1 else self.code

    def forward(self, t: Tensor, h: Tensor) -> Tensor:
        return h * torch.cos(self.context)


class Remade(Part):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, t: Tensor, h: Tensor) -> Tensor:
        return checkpoint(lambda a: torch.tanh(self.linear(a)), h, use_reentrant=False)


PARTS = (Linear, Adapter, Activation, Dropout, Counting, Scaled, Timed, Context, Remade)
HOOKS = ("none", "forward", "pre")


class Stack(nn.Module):
    """Parts one after another, between two linear layers; maybe with a hook on each."""

    def __init__(self, parts: list[Part], hook: str) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, WIDTH), nn.Linear(WIDTH, 2)
        self.parts = nn.ModuleList(parts)
        randomized(self)
        for part in parts if hook != "none" else ():
            if hook == "forward":
                part.register_forward_hook(lambda module, inputs, output: 0.8 * output)
            else:
                part.register_forward_pre_hook(lambda module, inputs: (inputs[0], inputs[1].sin()))

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        h = self.first(x)
        for part in self.parts:
            h = part(t, h)
        return self.last(torch.tanh(h))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Case, bool]:
    """A field, and whether it changes as it is evaluated."""
    drawn_parts = draw(st.lists(st.tuples(st.sampled_from(PARTS), st.integers(0, 7)), max_size=4))
    hook, frozen = draw(st.sampled_from(HOOKS)), draw(st.booleans())

    def make() -> Made:
        stack = Stack([kind(seed) for kind, seed in drawn_parts], hook)
        stack.requires_grad_(not frozen) if frozen else None
        held = [part for part in stack.parts if isinstance(part, Context)]
        tensors = {f"code{i}": part.code for i, part in enumerate(held)}
        return Made(stack, stack, start(), {**trained(stack), **tensors}, stack)

    name = "+".join(f"{kind.__name__}{seed}" for kind, seed in drawn_parts)
    changes = any(kind.changes for kind, _ in drawn_parts)
    return Case(f"{name}-{hook}-{frozen}", make, tolerance=0.3 if changes else 1e-6), changes


asked_of = st.sampled_from(
    [
        Asked(),
        Asked(times=True),
        Asked("exact", ("kinetic_energy",)),
        Asked("hutchinson", ("jacobian_frobenius", "total_derivative")),
    ]
)


@settings(max_examples=max(25, settings().max_examples // 4))
@given(cases(), asked_of, st.booleans())
def test_right_or_refused(drawn_case: tuple[Case, bool], asked: Asked, adaptive: bool) -> None:
    case, changes = drawn_case
    for sensitivity in SENSITIVITIES:
        came = outcome(Cell(case, sensitivity, adaptive, asked))
        refused = changes and (asked.times or sensitivity in CONTINUOUS)
        assert came.kind == ("refused" if refused else "right"), f"{sensitivity}: {came}"
