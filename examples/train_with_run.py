"""Trains a packaged recipe from Python, and reads the trained flow back from its run folder."""

import tempfile
from pathlib import Path

from rnode_dyn import FlowDistribution, load_recipe, run
from rnode_dyn.training.folder import RunFolder

recipe = load_recipe("moons", ["train.epochs=1", "data.train_size=2000", "data.test_size=500"])
with tempfile.TemporaryDirectory() as folder:
    result = run(recipe, Path(folder) / "moons")
    print(result.summary["bits_per_dim"], sorted(p.name for p in result.folder.iterdir()))
    recipe, model = RunFolder(result.folder).load()

distribution = FlowDistribution(model, event_shape=model.event_shape)
print(distribution.log_prob(distribution.sample((5,))))
