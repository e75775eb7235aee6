"""What minibatch optimal transport does to a flow: how straight its paths are, and what they cost.

    python benchmarks/coupling.py MNIST_ROOT

Flow matching alone, with independent noise and with noise exchanged within the batch, on two moons
(batches of 256; no coordinate leaves early, so that all take part) and on 14×14 MNIST (batches of
64; half of the coordinates leave early and keep their noise). Held out: 250 validation points.
Evaluations are those of a forward pass by dopri5 at tolerance 1e-5. Bent is the part of the
kinetic energy that straight paths at constant speed between each block's ends would have saved.
"""

import argparse
from dataclasses import dataclass

from rnode_dyn import FlowMatching, MultiscaleFlow, load_recipe

# isort: split
import torch  # after rnode_dyn, which lets Lightning import beside a CPU torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from warm_start import HELD_OUT, fit

from rnode_dyn.data.splits import Splits
from rnode_dyn.evaluation.bits import bits_of
from rnode_dyn.flows.result import FlowResult
from rnode_dyn.recipe.build import build_model, load_splits
from rnode_dyn.training.loop.module import FlowTraining


@dataclass(frozen=True)
class Case:
    """A recipe's flow, and how long it learns: steps, batch size, rate."""

    recipe: str
    lengths: tuple[int, int, float]
    overrides: tuple[str, ...] = ()


def cases(root: str) -> list[Case]:
    """The flows of the table."""
    mnist = (f"data.root={root}", f"data.validation_size={HELD_OUT}", "data.test_size=1")
    return [
        Case("moons", (1500, 256, 5e-3)),
        Case("mnist14-warm", (500, 64, 5e-3), mnist),
    ]


@torch.no_grad()
def measure(model: MultiscaleFlow, splits: Splits) -> list[str]:
    """Bits/dim, evaluations, kinetic energy, and how much of it bent paths cost."""
    module = FlowTraining(model.eval(), splits.event)
    chords: list[Tensor] = []

    def keep(flow: nn.Module, inputs: tuple[Tensor], result: FlowResult) -> None:
        chords.append(0.5 * (result.z - inputs[0]).square().mean())

    hooks = [block.register_forward_hook(keep) for block in model.blocks]
    torch.manual_seed(0)
    result = model(module.dequantize(splits.validation.head(HELD_OUT)))
    for hook in hooks:
        hook.remove()
    evaluations = sum(block.stats.nfe for block in model.blocks)
    energy = float(result.penalties["kinetic_energy"].mean())
    bent = 1 - float(torch.stack(chords).sum()) / energy
    bits = float(bits_of(result, splits.event).mean())
    return [f"{bits:.3f}", str(evaluations), f"{energy:.3f}", f"{bent:.1%}"]


def row(case: Case, coupling: str, seed: int) -> list[str]:
    """Train a flow, and return its row."""
    torch.manual_seed(seed)
    recipe = load_recipe(case.recipe, case.overrides)
    splits = load_splits(recipe)
    model = build_model(recipe, splits.event).train()
    objective = FlowMatching(coupling)  # type: ignore[arg-type]
    seconds = fit(model, splits, objective, case.lengths, [])
    return [case.recipe, coupling, str(seed), f"{seconds:.0f}", *measure(model, splits)]


def main(root: str) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    console = Console(width=120)
    table = Table(
        "flow", "coupling", "seed", "seconds", "bits/dim", "evaluations", "energy", "bent", box=None
    )
    for case in cases(root):
        for seed in (0, 1):
            for coupling in ("independent", "minibatch-ot"):
                cells = row(case, coupling, seed)
                table.add_row(*cells)
                console.print(" | ".join(cells), highlight=False)
    console.print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="folder of MNIST")
    main(**vars(parser.parse_args()))
