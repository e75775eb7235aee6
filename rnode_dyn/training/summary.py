"""The figures that a run leaves behind."""

import platform
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from rnode_dyn.report.architecture import count_parameters
from rnode_dyn.training.evaluate import Evaluation

_REPORTED = (
    "bits_per_dim",
    "bits_per_dim_stderr",
    "bits_per_dim_bin_centre",
    "bits_per_dim_bin_centre_stderr",
    "log_likelihood_nats",
    "log_likelihood_nats_stderr",
    "nfe_forward",
    "kinetic_energy",
    "jacobian_frobenius",
    "reconstruction_error",
    "protocol",
)


def summarize(
    evaluation: Evaluation,
    model: nn.Module,
    *,
    train_steps: int,
    wall_clock_s: float,
    training_s: float,
    seed: int,
) -> dict[str, Any]:
    """Return ``summary.json``'s content.

    Args:
        evaluation: The flow's figures on the test split.
        model: The flow.
        train_steps: Optimizer steps taken.
        wall_clock_s: Seconds from the first step to the end of training.
        training_s: The same without validation.
        seed: The run's seed.
    """
    figures = evaluation.as_dict()
    return {
        **{name: figures[name] for name in _REPORTED},
        "parameters": count_parameters(model),
        "train_steps": train_steps,
        "wall_clock_s": round(wall_clock_s, 2),
        "training_s": round(training_s, 2),
        "seed": seed,
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    packages = ("rnode-dyn", "torch", "torchdyn", "pytorch-lightning", "torchvision")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }
