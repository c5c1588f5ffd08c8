"""How results are shown: tables as text, in a terminal, in a notebook, and as data frames."""

from fastdecode.display.tables import Column, Table, Tabular

__all__ = ["Column", "Table", "Tabular"]
