"""The figures as tables of a page."""

from problems import PROBLEMS

HEAD = "| | lines | evaluations | error | gradient's | first, s | later, s |"
NONE = "–"


def number(value: float | None, digits: int = 2) -> str:
    """A figure as people read it; a dash where there is none."""
    if value is None:
        return NONE
    return f"{value:.{digits}g}" if 1e-3 <= value < 1e3 else f"{value:.0e}".replace("e-0", "e-")


def row(package: str, found: dict) -> str:
    """A package's figures."""
    if "failure" in found:
        return f"| {package} | fails: {found['failure'][:80]} | | | | | |"
    cells = [
        str(found.get("lines", NONE)),
        f"{found['evaluations']:,}" if "evaluations" in found else NONE,
        number(found.get("error"), 1),
        number(found.get("gradient"), 1),
        number(found["first"]),
        number(found["later"]),
    ]
    return f"| {package} | {' | '.join(cells)} |"


def table(name: str, found: dict[str, dict]) -> str:
    """A problem's figures."""
    rows = []
    for package, figures in found.items():
        if figures:
            rows.append(row(package, figures))
        if figures.get("compiled"):
            rows.append(row(f"{package}, field compiled", figures["compiled"]))
    none = [package for package, figures in found.items() if not figures]
    rule = HEAD.count("|") - 1
    lines = [f"### {PROBLEMS[name].name}", "", HEAD, "|---" * rule + "|", *rows]
    if none:
        lines += ["", f"No way to solve this: {', '.join(none)}."]
    return "\n".join(lines)


def markdown(found: dict) -> str:
    """All tables, after the versions."""
    told = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    tables = [table(name, figures) for name, figures in found["problems"].items()]
    return "\n\n".join([f"Versions: {told}.", *tables])
