"""Resuming bit for bit: the random numbers go on where the checkpoint left them."""

from typing import Any

import pytorch_lightning as pl
import torch


class RandomState(pl.Callback):
    """Keeps torch's random state in the checkpoint; the data's order is known from the epoch."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the CPU's generator, and of each GPU's."""
        state: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put the generators back."""
        self._loaded = state_dict

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002  # Lightning's
        """Take effect last: loading a checkpoint draws random numbers of its own."""
        loaded = self._loaded
        if loaded is None:
            return
        torch.set_rng_state(loaded["cpu"].cpu())
        if "cuda" in loaded and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([state.cpu() for state in loaded["cuda"]])
