"""Files that have to be there before a data set is read."""

from collections.abc import Iterable

from rnode_dyn.data.errors import MissingDataError
from rnode_dyn.data.request import DataRequest


def require_files(request: DataRequest, files: Iterable[str], steps: str) -> None:
    """Check that files are there.

    Args:
        request: What was asked for; the files are looked for under its root.
        files: Their paths, relative to the root.
        steps: How to get this data set, as whole sentences.

    Raises:
        MissingDataError: Some are not there; the message names them and ends in the steps.
    """
    missing = [name for name in files if not (request.root / name).exists()]
    if missing:
        raise MissingDataError(
            f"{request.name} is not complete under {request.root}: {', '.join(missing)} not found "
            f"there. {steps}"
        )


def torchvision_download(call: str) -> str:
    """The command that lets torchvision download a data set.

    >>> print(torchvision_download("SVHN('data', download=True)"))
      python -c "import rnode_dyn, torchvision; torchvision.datasets.SVHN('data', download=True)"
    """
    # rnode_dyn first: it mends a torchvision that stands beside a torch without CUDA.
    return f'  python -c "import rnode_dyn, torchvision; torchvision.datasets.{call}"'
