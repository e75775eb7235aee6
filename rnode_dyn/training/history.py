"""The figures of an interrupted run, carried over when it goes on."""

import csv

import torch
from pytorch_lightning.loggers import CSVLogger

from rnode_dyn.training.folder import RunFolder


def restore_metrics(logger: CSVLogger, folder: RunFolder) -> None:
    """Log again what ``metrics.csv`` holds up to the checkpoint; a new logger starts it afresh.

    Args:
        logger: The logger of the run that goes on.
        folder: Its folder.
    """
    if not folder.metrics.is_file():
        return
    checkpoint = torch.load(folder.last_checkpoint, map_location="cpu", weights_only=False)
    with folder.metrics.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        step = int(row.pop("step"))
        if step < checkpoint["global_step"]:
            logger.log_metrics({k: float(v) for k, v in row.items() if v}, step)
    logger.save()
