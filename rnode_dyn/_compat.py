"""Let torchvision be imported beside a CPU-only torch; imported before everything else.

PyPI's torchvision wheels are compiled against a CUDA build of torch. Beside a CPU build their
compiled operators fail to load, and the Python half then raises on registering fake kernels for
operators that nobody declared. Declaring the missing schemas is enough for data sets, transforms
and image grids, which are all that is used here (and by torchmetrics, Lightning and torchdyn).
"""

import importlib
import re
import sys
import warnings

import torch

_MISSING = re.compile(r"operator torchvision::(\w+) does not exist")

# The schemas only have to exist: nothing in this package calls these operators.
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

# A fragment lives as long as its Library object.
_fragments: list[torch.library.Library] = []


def ensure_torchvision_imports() -> None:
    """Import torchvision, declaring the operators it misses; a working one is left alone."""
    for _ in range(16):
        try:
            importlib.import_module("torchvision")
        except RuntimeError as error:
            missing = _MISSING.search(str(error))
            if missing is None:
                raise
            _declare(missing.group(1))
            _forget_partial_import()
        else:
            return
    raise RuntimeError(
        "torchvision does not import beside this torch: it misses one compiled operator after "
        "another. Install a torchvision built for this torch (see constraints.txt)."
    )


def _declare(operator: str) -> None:
    schema = _SCHEMAS.get(operator, f"{operator}() -> ()")
    fragment = torch.library.Library("torchvision", "FRAGMENT")
    fragment.define(schema)
    _fragments.append(fragment)


def _forget_partial_import() -> None:
    """Drop the modules of the failed attempt, so that the next one starts afresh."""
    for name in [n for n in sys.modules if n == "torchvision" or n.startswith("torchvision.")]:
        del sys.modules[name]


def import_quietly() -> None:
    """Import the torch libraries whose import warns about things no user of ours can mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ensure_torchvision_imports()
        importlib.import_module("pytorch_lightning")
        importlib.import_module("torchdyn.core")


import_quietly()
