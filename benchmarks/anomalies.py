"""Anomalies by density, AUROC: FlowDensity beside other methods.

Breast cancer: trained on half of the benign tumours; the other half against the malignant ones.
Digits: trained on half of the digits from 0 to 8; the other half against the nines.

    python benchmarks/anomalies.py
"""

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rnode_dyn import FlowDensity

SETS = {"breast cancer": (load_breast_cancer, 0), "digits": (load_digits, 9)}
METHODS = {
    # So many passes, since a few hundred rows make one or two steps each: after 240 steps the flow
    # is still a normal distribution, which is no judge of digits.
    "FlowDensity": lambda: make_pipeline(
        StandardScaler(),
        PCA(16, whiten=True),
        FlowDensity(epochs=1000, weight_decay=0.01, steps=4, random_state=0),
    ),
    "IsolationForest": lambda: IsolationForest(random_state=0),
    "KernelDensity": lambda: make_pipeline(
        StandardScaler(), PCA(16, whiten=True), KernelDensity(bandwidth="scott")
    ),
    "a normal distribution": lambda: make_pipeline(
        StandardScaler(), PCA(16, whiten=True), GaussianMixture(random_state=0)
    ),
}


def auroc(method: str, rows: np.ndarray, odd: np.ndarray) -> float:
    """How well the scores tell odd rows from held-out normal ones."""
    trained, held_out = train_test_split(rows[~odd], test_size=0.5, random_state=0)
    model = METHODS[method]().fit(trained)
    scores = model.score_samples(np.concatenate([held_out, rows[odd]]))
    return roc_auc_score(np.repeat([1, 0], [len(held_out), odd.sum()]), scores)


def main() -> None:
    """Print a row for each data set."""
    print("| data | " + " | ".join(METHODS) + " |\n|---|" + "---:|" * len(METHODS))
    for name, (load, label) in SETS.items():
        rows, labels = load(return_X_y=True)
        cells = [f"{auroc(method, rows, labels == label):.3f}" for method in METHODS]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
