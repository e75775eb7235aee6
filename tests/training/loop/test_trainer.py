"""How many processes train."""

import pytest
import torch

from rnode_dyn.recipe.train import TrainRecipe
from rnode_dyn.training.loop.trainer import processes_of


@pytest.mark.parametrize(
    ("given", "processes"),
    [
        ({}, 1),
        ({"devices": "auto"}, 4),
        ({"devices": "auto", "accelerator": "gpu", "nodes": 2}, 8),
        ({"devices": "auto", "accelerator": "cpu"}, 1),
        ({"devices": "auto", "accelerator": "cpu", "nodes": 2}, 2),
        ({"accelerator": "cpu", "devices": 3}, 3),
    ],
)
def test_gpus_count_where_they_train(given, processes, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert processes_of(TrainRecipe(**given)) == processes
