"""Remembers which file or override said what, so that a message can name it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rnode_dyn.recipe.scales import Path, recipes_own


@dataclass(frozen=True)
class Layer:
    """What one file or one override says."""

    source: str
    """The file's path, or the override as it was typed."""

    table: Mapping[str, Any]
    """What it says, as tables within tables."""

    def holds(self, path: Path) -> bool:
        """Whether the layer says something at `path`."""
        found: Any = self.table
        for part in path:
            if isinstance(found, Mapping) and str(part) in found:
                found = found[str(part)]
            elif isinstance(found, Sequence) and isinstance(part, int) and part < len(found):
                found = found[part]
            else:
                return False
        return True


@dataclass(frozen=True)
class Layers:
    """The layers of a recipe, the earliest first."""

    files: Sequence[Layer]
    """The files, from the one that extends nothing to the one that was asked for."""

    overrides: Sequence[Layer] = ()

    def source_of(self, path: Path) -> str:
        """What said `path` last; for a key that nothing said, the file with its table."""
        for exact in (path, recipes_own(path)):
            for layer in reversed([*self.files, *self.overrides]):
                if layer.holds(exact):
                    return layer.source
        return self._file_with(path[:-1])

    def _file_with(self, path: Path) -> str:
        holders = [layer.source for layer in self.files if layer.holds(path)]
        return holders[-1] if holders else self._file_with(path[:-1])
