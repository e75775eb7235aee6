"""Grids of samples while a flow trains."""

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from rnode_dyn.recipe.schema import Recipe
from rnode_dyn.report.pictures import draw_grid, shows_as_image
from rnode_dyn.training.loop.module import FlowTraining


class SampleGrids(pl.Callback):
    """Draws a grid of samples every so many epochs, the same latent variables each time.

    Args:
        recipe: Says how many samples, how often, at what temperatures.
        folder: Where the pictures go, named by their epoch, and by their stage if there are more.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw with the weights that were validated: the averaged ones where there are any.

        For that, this callback must stand before the one that averages, which swaps them back.
        """
        every = self.recipe.samples.every
        epoch = trainer.current_epoch + 1
        after_training = trainer.state.fn != TrainerFn.FITTING
        if every is None or epoch % every or after_training or not trainer.is_global_zero:
            return
        if isinstance(pl_module, FlowTraining) and shows_as_image(pl_module.event):
            stages = len(self.recipe.train.stages)
            stage = f"stage-{pl_module.past.stage}-" if stages > 1 else ""
            path = self.folder / f"{stage}epoch-{epoch:04}.png"
            draw_grid(self.recipe, pl_module.model, pl_module.event, path)
