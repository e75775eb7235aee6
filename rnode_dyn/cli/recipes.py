"""``rnode-dyn recipes``: the recipes that come with the package."""

from rich.table import Table

from rnode_dyn.cli.options import AsJson
from rnode_dyn.cli.printing import out, print_json


def recipes_command(as_json: AsJson = False) -> None:
    """List the recipes that come with the package."""
    from rnode_dyn.recipe.load import list_recipes

    entries = list_recipes()
    if as_json:
        print_json([{**entry._asdict(), "path": str(entry.path)} for entry in entries])
        return
    table = Table("recipe", "title", box=None, header_style="bold")
    for entry in entries:
        table.add_row(entry.name, entry.title)
    out().print(table)
