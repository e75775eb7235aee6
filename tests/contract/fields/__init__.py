"""The fields of the contract, as users write them."""

from tests.contract.fields.case import Case, Made
from tests.contract.fields.changing import CHANGING_FIELDS
from tests.contract.fields.contexts import CONTEXTS
from tests.contract.fields.spellings import SPELLINGS
from tests.contract.fields.unusual import UNUSUAL
from tests.contract.fields.wrappers import WRAPPERS

GROUPS: dict[str, tuple[Case, ...]] = {
    "How it is written": SPELLINGS,
    "What it is wrapped in, and what is changed about it": WRAPPERS,
    "What else it uses": CONTEXTS,
    "What is random, or changes": CHANGING_FIELDS,
    "How it is differentiated, and what is no field": UNUSUAL,
}
FIELDS = tuple(case for group in GROUPS.values() for case in group)

__all__ = ["FIELDS", "GROUPS", "Case", "Made"]
