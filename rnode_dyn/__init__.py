"""Regularized neural ODEs: continuous normalizing flows that train fast.

The public names stand in the stub beside this file. Each is imported, with all that it needs and
no more, when it is first used, so that a command that only reads a recipe starts at once.
"""

import lazy_loader

from rnode_dyn import _torchvision

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

_torchvision.install()
