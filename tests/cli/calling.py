"""A small recipe, and the command called within the process."""

from typer.testing import CliRunner, Result

from rnode_dyn.cli import app

GOOD = """
name = "good"
[data]
dataset = "digits"
train_size = 64
validation_size = 20
test_size = 20
batch_size = 32
[model]
logit_alpha = 0.01
[model.field]
kind = "mlp"
hidden = [8]
[train]
max_steps = 2
[samples]
count = 4
"""


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def words_of(text: str) -> str:
    """What is said, without the frame around it and the ends of lines."""
    return " ".join(text.replace("│", " ").split())
