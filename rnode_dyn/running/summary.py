"""The figures that a run leaves behind."""

import math
import platform
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from rnode_dyn import __version__
from rnode_dyn.costs.architecture import count_parameters
from rnode_dyn.evaluation.evaluate import Evaluation
from rnode_dyn.training.governor.governor import StepGovernor

_REPORTED = (
    "bits_per_dim",
    "bits_per_dim_stderr",
    "bits_per_dim_bin_centre",
    "bits_per_dim_bin_centre_stderr",
    "log_likelihood_nats",
    "log_likelihood_nats_stderr",
    "log_likelihood_nats_standardised",
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
    precision: str,
    skipped_steps: int = 0,
    threads: int,
    pieces: dict[str, Any],
    governor: StepGovernor | None = None,
    device: torch.device,
) -> dict[str, Any]:
    """Return ``summary.json``'s content.

    Args:
        evaluation: The flow's figures on the test split.
        model: The flow.
        train_steps: Optimizer steps taken.
        wall_clock_s: Seconds that the whole command took, and of a run that went on the training
            and validation of before.
        training_s: Seconds of training, without validation.
        seed: The run's seed.
        precision: The floating-point precision that the training was computed in, which is not
            the recipe's where the device has not that.
        skipped_steps: Steps that were left out since they were not finite.
        threads: Threads of torch on the CPU, in the last stage.
        pieces: In what pieces the flow was solved in training.
        governor: Who chose the training's steps, if anybody did.
        device: Where it was trained.
    """
    figures = evaluation.as_dict()
    return {
        **{name: figures[name] for name in _REPORTED},
        "dequantization": evaluation.protocol.dequantization,
        "parameters": count_parameters(model),
        "train_steps": train_steps,
        "wall_clock_s": round(wall_clock_s, 2),
        "training_s": round(training_s, 2),
        **pieces,
        **_governed(governor),
        "precision": precision,
        "skipped_steps": skipped_steps,
        "seed": seed,
        "threads": threads,
        "versions": {**versions(), "device": _name_of(device)},
    }


def _governed(governor: StepGovernor | None) -> dict[str, Any]:
    """How the flow was solved in training, where that was not the recipe's to say.

    A gap that is infinite, since a solve broke down, is none that JSON knows.
    """
    gap = None if governor is None else governor.gap
    return {
        "governor_steps": None if governor is None else governor.steps,
        "governor_gap": gap if gap is not None and math.isfinite(gap) else None,
        "governor_returns": None if governor is None else governor.returns,
    }


def versions() -> dict[str, str]:
    """Return the versions of what the figures depend on."""
    packages = ("torch", "torchdyn", "pytorch-lightning", "torchvision")
    return {
        "python": platform.python_version(),
        "rnode-dyn": __version__,  # also where the package lies on the path, and is not installed
        **{name: version(name) for name in packages},
    }


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
