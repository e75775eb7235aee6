"""What checkpoints cost a training: the seconds spent saving, of the seconds spent training.

    python benchmarks/saving.py RECIPE MINUTES FOLDER [KEY=VALUE…]

Trains so long, saving as the recipe says, and prints how often it saved, how long that took, and
its share of the training.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from rnode_dyn import load_recipe, run
from rnode_dyn.training.loop.save_points import SavePoints


class StopWatch:
    """Counts the calls of a method, and the seconds within them."""

    def __init__(self, owner: type, name: str) -> None:
        self.calls, self.seconds = 0, 0.0
        real = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return real(*args, **kwargs)
            finally:
                self.calls += 1
                self.seconds += time.perf_counter() - start

        setattr(owner, name, timed)


def main(recipe: str, minutes: float, folder: Path, overrides: list[str]) -> None:
    """Train, and print the share."""
    saving = StopWatch(SavePoints, "_save")
    # Evaluation and samples come after the training, and are not what is asked here.
    short = (
        f"train.max_minutes={minutes}",
        *overrides,
        "data.test_size=8",
        "data.validation_size=8",
    )
    training = run(load_recipe(recipe, short), folder).summary["wall_clock_s"]
    print(
        f"{saving.calls} saves in {saving.seconds:.2f} s of {training:.0f} s of training: "
        f"{saving.seconds / training:.3%}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("minutes", type=float)
    parser.add_argument("folder", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    main(**vars(parser.parse_args()))
