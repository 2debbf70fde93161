"""A table in Markdown."""

from collections.abc import Iterable


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """The table, with vertical bars inside its cells escaped."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    lines.insert(1, ("---",) * len(lines[0]))
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)
