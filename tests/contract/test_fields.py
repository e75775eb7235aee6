"""Every field of the contract: right as the plain reference has it, or refused with a sentence.

Every field meets every sensitivity here; what is asked, and the stepping, take turns. The whole
product is run by ``make test-all``.
"""

import pytest

from tests.contract.cells import EVERYTHING, OF_THE_STEPS, SENSITIVITIES, STEPS, Asked, Cell
from tests.contract.fields import FIELDS, Case
from tests.contract.outcomes import outcome

ALL_PENALTIES = EVERYTHING[-1].penalties
# Asked of every field and sensitivity: the state, the times, and one flow or the other.
SMALL = (Asked(), Asked(times=True), Asked("exact", ALL_PENALTIES), Asked("hutchinson", times=True))


def check(cell: Cell) -> None:
    """A field that is to be refused must not be right either: the table would be out of date."""
    came = outcome(cell)
    assert came.kind == ("refused" if cell.is_refused else "right"), f"{cell}: {came}"


def taking_turns(index: int, case: Case) -> list[Cell]:
    """A flow or states for every sensitivity; others for the next field."""
    turns = enumerate(SENSITIVITIES, index)
    return [Cell(case, s, turn % 3 == index % 2, SMALL[turn % len(SMALL)]) for turn, s in turns]


SOME = [cell for index, case in enumerate(FIELDS) for cell in taking_turns(index, case)]


@pytest.mark.parametrize("cell", SOME, ids=str)
def test_field(cell: Cell) -> None:
    check(cell)


@pytest.mark.one_in(100)
@pytest.mark.parametrize("asked", STEPS, ids=str)
@pytest.mark.parametrize("adaptive", [False, True], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("sensitivity", sorted(OF_THE_STEPS))
@pytest.mark.parametrize("case", FIELDS, ids=str)
def test_what_the_steps_say(case: Case, sensitivity: str, adaptive: bool, asked: Asked) -> None:
    check(Cell(case, sensitivity, adaptive, asked))


@pytest.mark.slow
@pytest.mark.parametrize("adaptive", [False, True], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("sensitivity", SENSITIVITIES)
@pytest.mark.parametrize("case", FIELDS, ids=str)
def test_whole_product(case: Case, sensitivity: str, adaptive: bool) -> None:
    for asked in EVERYTHING:
        check(Cell(case, sensitivity, adaptive, asked))


def test_every_field_meets_every_sensitivity() -> None:
    met = {(cell.case.name, cell.sensitivity) for cell in SOME}
    assert len(met) == len(FIELDS) * len(SENSITIVITIES)
    assert len({case.name for case in FIELDS}) == len(FIELDS)
