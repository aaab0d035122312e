"""The look of all tables of the command line."""

from __future__ import annotations

from rich import box
from rich.table import Table


def plain_table(title: str = "") -> Table:
    """An empty table: no borders, so that plain text stays readable in a log."""
    return Table(
        title=title or None,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        caption_style="dim",
    )
