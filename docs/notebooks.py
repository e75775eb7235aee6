"""Makes a notebook of every tutorial, from the page itself.

MkDocs takes it as a hook: each notebook lies beside its page. Without MkDocs,
``python docs/notebooks.py FOLDER`` writes them into a folder.
"""

import re
import sys
from pathlib import Path
from typing import Any

import jupytext

TUTORIALS = Path(__file__).parent / "tutorials"
_MADE_BY_RUNNING = re.compile(r"^```text\n.*?^```\n|^!\[[^\]]*\]\(.*?\)\n", re.M | re.S)
_COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)
_HEADER = """---
jupyter:
  kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
_LINK_WITHIN = re.compile(r"(?<!!)\[([^\]]+)\]\((?!http)[^)]*\)")


def pages() -> list[Path]:
    """The tutorials, which are pages with code."""
    return [
        page for page in sorted(TUTORIALS.glob("*.md")) if "```python\n" in page.read_text("utf-8")
    ]


def notebook_of(text: str) -> str:
    """A page as a notebook in JSON: without what running it prints and draws, and links within."""
    bare = _LINK_WITHIN.sub(r"\1", _MADE_BY_RUNNING.sub("", text))
    notebook = jupytext.reads(_HEADER + _COMMANDS.sub(r"```bash\n\1```", bare), fmt="md")
    notebook.nbformat_minor = 4  # from 5 on cells have random names
    for cell in notebook.cells:
        cell.pop("id", None)
    return jupytext.writes(notebook, fmt="ipynb")


def on_files(files: Any, config: Any) -> Any:
    """Add the notebooks to what MkDocs copies."""
    from mkdocs.structure.files import File

    for page in pages():
        uri, content = f"tutorials/{page.stem}.ipynb", notebook_of(page.read_text("utf-8"))
        files.append(File.generated(config, uri, content=content))
    return files


if __name__ == "__main__":
    for tutorial in pages():
        target = Path(sys.argv[1], tutorial.with_suffix(".ipynb").name)
        target.write_text(notebook_of(tutorial.read_text("utf-8")), encoding="utf-8")
