"""Lightning on the stand-in, so that whole training steps can be counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.accelerators import Accelerator, AcceleratorRegistry
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.trainer.connectors.accelerator_connector import _AcceleratorConnector
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from rnode_dyn import FlowTraining, MultiscaleFlow, Recipe
from rnode_dyn.data.splits import Event
from rnode_dyn.runs.folder import RunFolder
from rnode_dyn.runs.history import RunLogger
from rnode_dyn.training.loop.display import TrainingDisplay
from rnode_dyn.training.loop.stages import build_objective
from rnode_dyn.training.loop.trainer import make_trainer, quiet_lightning
from tests.accelerator.readings import Readings, host_readings
from tests.accelerator.tensor import NAME


class Stand(Accelerator):
    """The stand-in, as Lightning asks for a device."""

    def setup_device(self, device: torch.device) -> None:
        """It needs no preparation."""

    def teardown(self) -> None:
        """It leaves nothing behind."""

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        """Take what is given."""
        return devices

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        """There is one."""
        return [torch.device(NAME, 0)]

    @staticmethod
    def auto_device_count() -> int:
        """There is one."""
        return 1

    @staticmethod
    def is_available() -> bool:
        """It is always there."""
        return True

    @staticmethod
    def name() -> str:
        """Its name."""
        return NAME


class CountedSteps(Callback):
    """Counts what the host reads in each training step, all of Lightning's own included."""

    def __init__(self) -> None:
        self.steps: list[Readings] = []
        self._counting: Any = None

    def on_train_batch_start(self, *args: Any) -> None:
        """Begin to count."""
        self._stop()
        self._counting = host_readings()
        self.steps.append(self._counting.__enter__())

    def on_train_end(self, *args: Any) -> None:
        """Count no more."""
        self._stop()

    def on_train_epoch_end(self, *args: Any) -> None:
        """The end of an epoch is no step."""
        self._stop()

    def _stop(self) -> None:
        if self._counting is not None:
            self._counting.__exit__(None, None, None)
            self._counting = None


@contextmanager
def on_the_stand_in() -> Iterator[None]:
    """Let Lightning find the stand-in where it looks for the machine's own accelerator."""
    AcceleratorRegistry.register(NAME, Stand, override=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_AcceleratorConnector, "_choose_auto_accelerator", lambda *given: NAME)
        patch.setattr(_AcceleratorConnector, "_choose_strategy", lambda *given: _strategy())
        yield


def _strategy() -> SingleDeviceStrategy:
    return SingleDeviceStrategy(torch.device(NAME, 0))


def counted_training(
    model: MultiscaleFlow,
    batches: list[Tensor],
    event: Event,
    recipe: Recipe,
    folder: Path,
    console: Console | None = None,
) -> list[Readings]:
    """Train as a recipe says, and return what the host read in each step."""
    run_folder, counting = RunFolder(folder), CountedSteps()
    console = Console(quiet=True) if console is None else console
    run_folder.create(recipe)
    stage = recipe.train.stages[0]
    with on_the_stand_in():
        logger = RunLogger(run_folder)
        trainer = make_trainer(recipe, 0, run_folder, logger, console, [counting])
        _show_no_lines(trainer)
        loader = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
        with quiet_lightning():
            trainer.fit(FlowTraining(model, event, build_objective(stage)), loader)
    return counting.steps


def _show_no_lines(trainer: Trainer) -> None:
    """Lines are written by the clock, and would be counted now and then."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, TrainingDisplay):
            callback.seconds_between_lines = float("inf")
