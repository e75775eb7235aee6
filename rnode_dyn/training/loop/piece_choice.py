"""`train.micro_batch = "auto"`: in what pieces a stage solves its batches, chosen at its start."""

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl

from rnode_dyn.costs.pieces import Pieces, choose_pieces, differentiate_by
from rnode_dyn.flows.regularized import RegularizedFlow
from rnode_dyn.training.loop.module import FlowTraining


class PieceChoice(pl.Callback):
    """Chooses the pieces by the memory that is there; a training that goes on keeps them.

    Args:
        batch_size: Samples in a step of each process.
        governed: The blocks whose steps the training chooses.

    Attributes:
        pieces: The choice, once it is made.
    """

    def __init__(self, batch_size: int, governed: Collection[RegularizedFlow] = ()) -> None:
        self.batch_size, self.governed = batch_size, governed
        self.pieces: Pieces | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose, unless a checkpoint has told; with several processes, the first one's choice."""
        assert isinstance(pl_module, FlowTraining)  # make_trainer's trainers fit no other
        if self.pieces is None:
            here = choose_pieces(pl_module.model, self.batch_size, pl_module.device, self.governed)
            self.pieces = trainer.strategy.broadcast(here)
        pl_module.micro_batch = self.pieces.size
        differentiate_by(pl_module.model, self.pieces.way)

    def state_dict(self) -> dict[str, Any]:
        """Return the choice, for a training that goes on."""
        return {} if self.pieces is None else asdict(self.pieces)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the choice."""
        self.pieces = Pieces(**state_dict) if state_dict else None
