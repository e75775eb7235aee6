"""``python -m rnode_dyn``: the command, by another way in."""

from rnode_dyn.cli import main

if __name__ == "__main__":
    main()
