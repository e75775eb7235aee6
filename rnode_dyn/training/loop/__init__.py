"""The training loop: Lightning's module and trainer, stages, display, clock, checkpoints."""
