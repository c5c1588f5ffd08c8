"""Tables as plain text, rich text and HTML, and as pandas and polars data frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastdecode.display.html import escape, fragment
from fastdecode.display.terminal import printable

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_BAR = 12
_SHORT_BAR = 4


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        cells: one string for each row.
        right: aligned to the right, for numbers.
        code: in a fixed-width font, for tokens.
        bars: a length in 0..1 for each row, drawn as a bar in place of `cells`.
    """

    name: str
    cells: Sequence[str] = ()
    right: bool = False
    code: bool = False
    bars: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows to show.

    Attributes:
        columns: the columns, all of the same length.
        notes: sentences below the table.
        cut: the rows that are shown faded.
        won: the rows that are shown as chosen.
        title: a sentence above the table.
    """

    columns: Sequence[Column]
    notes: Sequence[str] = ()
    cut: frozenset[int] = field(default_factory=frozenset)
    won: frozenset[int] = field(default_factory=frozenset)
    title: str | None = None

    def __len__(self) -> int:
        """How many rows there are."""
        first = self.columns[0]
        return len(first.cells if first.bars is None else first.bars)

    def text(self) -> str:
        """As plain text, columns aligned by the width that a terminal gives each character."""
        from rich.cells import cell_len

        drawn = []
        for column in self.columns:
            shown = map(printable, column.cells) if column.bars is None else _bars(column.bars)
            cells = [column.name, *shown]
            width = max(map(cell_len, cells))
            spaces = (" " * (width - cell_len(cell)) for cell in cells)
            drawn.append(
                [
                    space + cell if column.right else cell + space
                    for space, cell in zip(spaces, cells, strict=True)
                ]
            )
        lines = ["  ".join(parts).rstrip() for parts in zip(*drawn, strict=True)]
        for row in self.cut | self.won:
            lines[row + 1] += "  <- drawn" if row in self.won else "  cut"
        title, notes = [self.title] if self.title else [], list(map(printable, self.notes))
        return "\n".join([*map(printable, title), *lines, *notes])

    def rich(self) -> Any:
        """A rich renderable, in colour, with bars as long as the terminal has room for."""
        return _Rich(self)

    def html(self) -> str:
        """As HTML for a notebook."""
        return fragment(self.html_body())

    def html_body(self) -> str:
        """The same without the style, for use inside another fragment."""
        head = "".join(f'<th class="{_class(c)}">{escape(c.name)}</th>' for c in self.columns)
        rows = []
        for row in range(len(self)):
            kind = "cut" if row in self.cut else "won" if row in self.won else ""
            cells = "".join(_cell(column, row) for column in self.columns)
            rows.append(f'<tr class="{kind}">{cells}</tr>')
        title = f'<p class="note">{escape(self.title)}</p>' if self.title else ""
        notes = "".join(f'<p class="note">{escape(note)}</p>' for note in self.notes)
        return (
            f"{title}<table><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>{notes}"
        )


@dataclass(frozen=True, slots=True)
class _Rich:
    table: Table

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.cells import cell_len
        from rich.table import Table as RichTable
        from rich.text import Text

        table = self.table
        wide = sum(
            2 + max(map(cell_len, [c.name, *c.cells])) for c in table.columns if c.bars is None
        )
        bars = sum(c.bars is not None for c in table.columns)
        room = (options.max_width - wide) // max(bars, 1) - 2
        drawn = RichTable(box=None, pad_edge=False, header_style="bold")
        cells = []
        for column in table.columns:
            narrow = column.right or column.code or column.bars is not None
            drawn.add_column(
                Text(column.name), justify="right" if column.right else "left", no_wrap=narrow
            )
            cells.append(
                [printable(cell) for cell in column.cells]
                if column.bars is None
                else _bars(column.bars, min(max(room, _SHORT_BAR), _BAR))
            )
        for row in range(len(table)):
            style = "dim" if row in table.cut else "bold green" if row in table.won else ""
            texts = (
                Text(column[row], style="" if kind.bars is None else "blue")
                for kind, column in zip(table.columns, cells, strict=True)
            )
            drawn.add_row(*texts, style=style)
        if table.title:
            yield Text(printable(table.title), style="bold")
        yield drawn
        for note in table.notes:
            yield Text(printable(note), style="italic")


class Tabular:
    """Base of results that are shown as a table and exported as a data frame."""

    def _table(self) -> Table:
        raise NotImplementedError

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """The columns as data, in full precision."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """A table as plain text."""
        return self._table().text()

    def __rich__(self) -> Any:
        """A table for `rich.print`."""
        return self._table().rich()

    def _repr_html_(self) -> str:
        return self._table().html()

    def to_html(self) -> str:
        """What a notebook shows: self-contained HTML without scripts."""
        return self._repr_html_()

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for each item, numbers in full precision.

        Raises:
            ImportError: where pandas is not installed.
        """
        try:
            import pandas  # type: ignore[import-untyped,import-not-found,unused-ignore]
        except ImportError as error:
            raise ImportError("to_pandas() needs pandas: pip install pandas") from error
        return pandas.DataFrame({name: list(values) for name, values in self._columns().items()})

    def to_polars(self) -> Any:
        """A polars DataFrame with a row for each item, numbers in full precision.

        Raises:
            ImportError: where polars is not installed.
        """
        try:
            import polars  # type: ignore[import-not-found,unused-ignore]
        except ImportError as error:
            raise ImportError("to_polars() needs polars: pip install polars") from error
        return polars.DataFrame({name: list(values) for name, values in self._columns().items()})


def bar(share: float, width: int = _BAR) -> str:
    """A bar of block characters, `width` cells long where `share` is 1."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    whole, rest = divmod(eighths, 8)
    drawn = "█" * whole + (_EIGHTHS[rest] if rest else "")
    return drawn or ("▏" if share > 0 else "")


def _bars(shares: Sequence[float], width: int = _BAR) -> list[str]:
    return [bar(share, width) for share in shares]


def _class(column: Column) -> str:
    if column.right:
        return "n"
    return "t" if column.code else "w"


def _cell(column: Column, row: int) -> str:
    if column.bars is not None:
        percent = min(max(column.bars[row], 0.0), 1.0) * 100
        inner = f'<i style="width:{percent:.2f}%"></i>' if percent else ""
        return f'<td><span class="bar">{inner}</span></td>'
    return f'<td class="{_class(column)}">{escape(column.cells[row])}</td>'
