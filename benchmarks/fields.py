"""What a field may be: every field of the contract under every sensitivity, right or refused.

    python -m benchmarks.fields            # in a minute or two, a part of what can be asked
    python -m benchmarks.fields --all      # the whole product
    python -m benchmarks.fields --write    # the table into docs/fields.md

The fields and what is compared with what stand in ``tests/contract``.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from tests.contract.cells import EVERYTHING, SENSITIVITIES, Asked, Cell
from tests.contract.fields import GROUPS, Case
from tests.contract.outcomes import outcome

PAGE = Path(__file__).parents[1] / "docs" / "fields.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
ALL_PENALTIES = EVERYTHING[-1].penalties
# A part of the product that meets every way to be refused.
SOME = (
    Asked(),
    Asked(times=True),
    Asked("hutchinson", ("kinetic_energy", "jacobian_frobenius")),
    Asked("exact", times=True),
    Asked("exact", ALL_PENALTIES),
)


def kind_of(asked: Asked) -> str:
    """What the table calls a question."""
    if asked.times:
        return "times"
    if asked.divergence is None:
        return "states"
    along = {"directional_derivative", "total_derivative"} & set(asked.penalties)
    return "penalties along the flow" if along else "log-determinant"


def entry(case: Case, sensitivity: str, questions: tuple[Asked, ...]) -> str:
    """Ask everything of one field under one sensitivity, and say what came."""
    came: dict[str, set[str]] = {}
    for asked in questions:
        for adaptive in (False, True):
            cell = Cell(case, sensitivity, adaptive, asked)
            result = outcome(cell)
            came.setdefault(kind_of(asked), set()).add(result.kind)
            if result.kind not in ("right", "refused"):
                print(f"{cell}: {result.kind}: {result.what}", file=sys.stderr)
    return summary(came)


def summary(came: dict[str, set[str]]) -> str:
    """One table entry: right, refused, or right but for what is refused."""
    kinds = set().union(*came.values())
    if not kinds <= {"right", "refused"}:
        return "**wrong**"
    if kinds == {"refused"}:
        return "refused"
    refused = [name for name, results in came.items() if "refused" in results]
    if not refused:
        return "right"
    if {"log-determinant", "penalties along the flow"} <= set(refused):
        refused = [name for name in refused if name != "penalties along the flow"]
    return f"right; refused: {', '.join(refused)}"


def table(questions: tuple[Asked, ...]) -> Iterator[str]:
    """Yield the lines of the table."""
    for title, cases in GROUPS.items():
        names = [f"`{name}`" for name in SENSITIVITIES]
        yield f"| {title} | {' | '.join(names)} |"
        yield f"|{'---|' * (1 + len(names))}"
        for case in track(cases, title, console=Console(stderr=True), transient=True):
            entries = [entry(case, sensitivity, questions) for sensitivity in SENSITIVITIES]
            yield f"| {case} | {' | '.join(entries)} |"
        yield ""


def main() -> None:
    """Print the table, or write it into the documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="ask everything that can be asked")
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.name}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = "\n".join(table(EVERYTHING if arguments.all else SOME))
    if not arguments.write:
        print(text)
        return
    page = PAGE.read_text(encoding="utf-8")
    before, _, after = page.partition(BEGIN)
    after = after.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
