"""The seal of a checkpoint: a digest of every byte, in the comment that a zip archive may have.

Torch reads a sealed file as it reads any other, and a file that no seal was put on stays readable.
The archive's own checksums cover its entries only, and torch does not look at them.
"""

import io
import zipfile
from hashlib import sha256

_TAG = b"rnode-dyn sha256 "
_COMMENT = len(_TAG) + 2 * sha256().digest_size
_END = b"PK\x05\x06"
_END_SIZE = 22


def seal(archive: bytes | bytearray) -> bytearray:
    """Return a zip archive, as torch writes it, with its digest as a comment.

    Raises:
        ValueError: if it is no archive, or has a comment already.

    Example:
        >>> import torch
        >>> file = io.BytesIO()
        >>> torch.save({"weight": torch.ones(2)}, file)
        >>> sealed = seal(file.getvalue())
        >>> is_whole(sealed), torch.load(io.BytesIO(sealed), weights_only=True)
        (True, {'weight': tensor([1., 1.])})
        >>> sealed[100] ^= 1
        >>> is_whole(sealed)
        False
    """
    if not _ends_plainly(archive):
        raise ValueError("what is sealed must be a zip archive without a comment")
    sealed = bytearray(archive)
    sealed[-2:] = _COMMENT.to_bytes(2, "little")
    digest = sha256(sealed).hexdigest().encode()
    return sealed + _TAG + digest


def is_whole(data: bytes | bytearray) -> bool:
    """Return whether a file is as it was written: by its seal, or by the archive's checksums."""
    if _ends_plainly(data):  # written by another hand, or by an older version
        return _entries_are_whole(data)
    body, comment = memoryview(data)[:-_COMMENT], bytes(data[-_COMMENT:])
    return comment == _TAG + sha256(body).hexdigest().encode()


def _ends_plainly(data: bytes | bytearray) -> bool:
    return data[-_END_SIZE:].startswith(_END) and data[-2:] == b"\0\0"


def _entries_are_whole(data: bytes | bytearray) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return archive.testzip() is None
    except Exception:  # a damaged archive raises whatever its bytes lead to
        return False
