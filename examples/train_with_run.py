"""Trains a packaged recipe from Python, and reads the trained flow back from its run folder."""

import tempfile
from pathlib import Path

from rnode_dyn import load_recipe, load_run, run

recipe = load_recipe("moons", ["train.epochs=1", "data.train_size=2000", "data.test_size=500"])
with tempfile.TemporaryDirectory() as folder:
    result = run(recipe, Path(folder) / "moons")
    print(result.summary["bits_per_dim"], sorted(p.name for p in result.folder.iterdir()))
    trained = load_run(result.folder)

distribution = trained.distribution()
print(distribution.log_prob(distribution.sample((5,))))
