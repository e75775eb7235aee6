"""Starting real processes as torchrun does, which talk to each other by gloo."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.tiny import TINY


def table(ranks: int = 1, precision: str = "64-true", **changes: Any) -> dict[str, Any]:
    """A small recipe whose steps take 64 samples, shared by so many processes.

    Args:
        ranks: Processes.
        precision: Floating-point precision.
        changes: Tables of the recipe, whose keys are added to its own.
    """
    data = {"batch_size": 64 // ranks, "eval_batch_size": 20}
    # The last digits of 32 bits differ where a sum is parted: a rate at which Adam leaves them so.
    train = {"accelerator": "cpu", "devices": ranks, "precision": precision, "learning_rate": 1e-3}
    own: dict[str, Any] = {**TINY, "samples": {"count": 1, "temperatures": [1.0]}}
    own["data"] = {**own["data"], **data, **changes.pop("data", {})}
    own["train"] = {"max_steps": 50, **train, **changes.pop("train", {})}
    return {**own, **changes}


def job(folder: Path, recipe: dict[str, Any], resume: bool = False) -> dict[str, Any]:
    """A run for `worker.py`."""
    return {"folder": str(folder), "table": recipe, "resume": resume}


def launch(jobs: list[dict[str, Any]], ranks: int, folder: Path) -> list[dict[str, Any]]:
    """Run jobs in so many processes, and return how each process ended each, by name."""
    file = folder / "jobs.json"
    file.write_text(json.dumps(jobs))
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.ranks.worker", str(file)],
            env={**os.environ, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        for environment in environments(ranks)
    ]
    said = [worker.communicate(timeout=600)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * ranks, "\n".join(said)
    return [json.loads((folder / f"ends-{rank}.json").read_text()) for rank in range(ranks)]


def environments(ranks: int) -> list[dict[str, str]]:
    """Return what torchrun tells each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "tests",
        "OMP_NUM_THREADS": "1",
    }
    return [{**common, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(ranks)]
