"""The figures of an interrupted run, carried over when it goes on."""

import csv

from pytorch_lightning.loggers import CSVLogger

from rnode_dyn.training.folder import RunFolder, read_checkpoint


def restore_metrics(logger: CSVLogger, folder: RunFolder) -> None:
    """Log again what ``metrics.csv`` holds up to the checkpoint; a new logger starts it afresh.

    Args:
        logger: The logger of the run that goes on.
        folder: Its folder.
    """
    if not folder.metrics.is_file():
        return
    reached = read_checkpoint(folder.last_checkpoint)["global_step"]
    with folder.metrics.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        step = row.pop("step", None) or ""
        # A line that was cut off has no step, or a figure that is none.
        if step.isdigit() and int(step) < reached and None not in row.values():
            logger.log_metrics({k: float(v) for k, v in row.items() if v}, int(step))
    logger.save()
