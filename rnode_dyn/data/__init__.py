"""Data sets by name, their batches, and the step from pixels to a density."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
