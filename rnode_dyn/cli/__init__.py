"""The command ``rnode-dyn``: one module a command, each of which imports what it needs when called.

A command's own module reads arguments and prints; what it takes torch to do is imported within,
so that help, completion and every refusal come at once.
"""

from rnode_dyn.cli.app import app, main

__all__ = ["app", "main"]
