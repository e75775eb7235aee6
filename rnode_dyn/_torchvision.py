"""Let torchvision be imported beside a CPU-only torch, whoever imports it and whenever.

PyPI's torchvision wheels are compiled against a CUDA build of torch. Beside a CPU build their
compiled operators fail to load, and the Python half then raises on registering fake kernels for
operators that nobody declared. Declaring the missing schemas is enough for data sets, transforms
and image grids, which are all that is used here (and by torchmetrics, Lightning and torchdyn).

The guard waits in the import system, so that ``import rnode_dyn`` imports nothing for it; a
torchvision that imports is left alone.
"""

import re
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_MISSING = re.compile(r"operator torchvision::(\w+) does not exist")

# The schemas only have to exist: nothing in this package calls these operators.
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_MOST_MISSING = 16

# A fragment of torch's operator library lives as long as its Library object.
_fragments: list[Any] = []


class _MendingLoader(Loader):
    """Runs torchvision's own loader, declaring the operators that it misses."""

    def __init__(self, own: Loader) -> None:
        self.own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Make the module as its own loader does."""
        return self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, once more for every operator that is found missing."""
        for _ in range(_MOST_MISSING):
            try:
                self.own.exec_module(module)
            except RuntimeError as error:
                missing = _MISSING.search(str(error))
                if missing is None:
                    raise
                _declare(missing.group(1))
                _forget_submodules(module.__name__)
            else:
                return _hand_back(module, self.own)
        raise RuntimeError(
            "torchvision does not import beside this torch: it misses one compiled operator after "
            "another. Install a torchvision built for this torch (see constraints.txt)."
        )


class _TorchvisionFinder(MetaPathFinder):
    """Finds torchvision as Python does, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return torchvision's spec with the mending loader in place of its own."""
        spec = PathFinder.find_spec(fullname, path) if fullname == "torchvision" else None
        if spec is not None and spec.loader is not None:
            spec.loader = _MendingLoader(spec.loader)
        return spec


def _hand_back(module: ModuleType, loader: Loader) -> None:
    """Leave the module with its own loader, which can do more than load."""
    module.__loader__ = loader
    if module.__spec__ is not None:
        module.__spec__.loader = loader


def _declare(operator: str) -> None:
    import torch  # whoever imports torchvision has it

    schema = _SCHEMAS.get(operator, f"{operator}() -> ()")
    fragment = torch.library.Library("torchvision", "FRAGMENT")
    fragment.define(schema)
    _fragments.append(fragment)


def _forget_submodules(name: str) -> None:
    """Drop what the failed attempt imported, so that the next one starts afresh."""
    for submodule in [known for known in sys.modules if known.startswith(f"{name}.")]:
        del sys.modules[submodule]


def install() -> None:
    """Put the guard into the import system, once."""
    if not any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())
