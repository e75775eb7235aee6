"""`digits`: scikit-learn's 1797 handwritten digits, 8×8 pixels of 17 levels; no download."""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from rnode_dyn.data.images import splits_of_images, square_event
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.splits import Event, Splits

LEVELS = 17  # the pixels count from 0 to 16
_VALIDATION, _TEST = 200, 300


def describe(request: DataRequest) -> Event:
    """One digit: (1, 8, 8) with 17 levels, unless the request says otherwise."""
    return square_event(request, channels=1, own_size=8, own_levels=LEVELS, classes=10)


def load(request: DataRequest) -> Splits:
    """1297 digits to train on, 200 to validate, 300 to test: the same ones in every run."""
    pixels, labels = load_digits(return_X_y=True)
    train, validation, test = _stratified(labels)
    images = torch.from_numpy(pixels).to(torch.uint8).reshape(-1, 1, 8, 8)
    parts = {"train": images[train], "validation": images[validation], "test": images[test]}
    digits = {"train": labels[train], "validation": labels[validation], "test": labels[test]}
    classes = {split: torch.from_numpy(found) for split, found in digits.items()}
    return splits_of_images(request, describe(request), parts, LEVELS, classes)


def _stratified(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The indices of each split; every digit is as frequent in one as in another."""
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=_TEST, stratify=labels, random_state=0
    )
    train, validation = train_test_split(
        rest, test_size=_VALIDATION, stratify=labels[rest], random_state=0
    )
    return np.asarray(train), np.asarray(validation), np.asarray(test)
