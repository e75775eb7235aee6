"""How many threads a training's steps take on the CPU: one or all, by what they take."""

from typing import Any

import pytorch_lightning as pl
import torch

from rnode_dyn.numerics.threads import faster_threads
from rnode_dyn.training.loop.module import FlowTraining


class ThreadTrial(pl.Callback):
    """Times the first batch's step with one thread and with all, and keeps the faster.

    The steps of the trial move no weight, and the whole stage is then trained by one number of
    threads: a run with that number given repeats it to the last digit. A training that goes on
    keeps the choice. With several processes, or on a GPU, nothing is tried: torch's own number
    stays.

    Attributes:
        threads: The choice, once it is made.
    """

    def __init__(self) -> None:
        self.threads: int | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Choose before the stage's first step."""
        if self.threads is not None:
            return
        assert isinstance(pl_module, FlowTraining)  # make_trainer's trainers fit no other
        self._keep(self._faster(trainer, pl_module, batch))

    def _faster(self, trainer: pl.Trainer, module: FlowTraining, batch: Any) -> int:
        if trainer.world_size > 1 or module.device.type != "cpu":
            return torch.get_num_threads()

        def step() -> None:
            with trainer.precision_plugin.train_step_context():
                module.gradient(batch)

        return faster_threads(step)

    def _keep(self, threads: int) -> None:
        self.threads = threads
        torch.set_num_threads(threads)

    def state_dict(self) -> dict[str, Any]:
        """Return the choice, for a training that goes on."""
        return {"threads": self.threads}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the choice."""
        if state_dict["threads"] is not None:
            self._keep(state_dict["threads"])
