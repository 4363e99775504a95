"""CSV that a spreadsheet takes for text: no cell of it is a formula. What is written here is read back as it was.

A text that begins with = + - @, a tab or a carriage return gets an apostrophe before it, as does one that has such
apostrophes already; numbers stay numbers, also those that are written in a text.
https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def guarded(cell: Any) -> Any:
    """A cell as it is written; of what is no text, itself."""
    if not isinstance(cell, str) or not _FORMULA.match(cell) or _NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}"


def unguarded(cell: Any) -> Any:
    """A cell as it was before it was written; of what is no text, itself."""
    return cell[1:] if isinstance(cell, str) and _GUARDED.match(cell) else cell


def write_csv(table: pd.DataFrame, file: Path | None = None, **settings: Any) -> str:
    """The table as CSV, names of columns included, without an index; "" where it goes to a file. settings: of
    DataFrame.to_csv. Raises OSError."""
    safe = table.rename(columns=guarded).apply(_column)
    # A carriage return is put into quotes only where lines end in one; bare, it would begin a line, and a cell.
    texts = (text for name, column in safe.items() for text in (name, *column) if isinstance(text, str))
    end = "\r\n" if any("\r" in text for text in texts) else "\n"
    return str(safe.to_csv(file, index=False, lineterminator=end, **settings) or "")


def _column(column: pd.Series[Any]) -> pd.Series[Any]:
    from pandas.api.types import is_object_dtype, is_string_dtype

    return column.map(guarded) if is_object_dtype(column.dtype) or is_string_dtype(column.dtype) else column


def read_csv(file: Path | TextIO, **settings: Any) -> pd.DataFrame:
    """A table of texts: every cell as it was before it was written. settings: of pandas.read_csv. Raises ValueError,
    pandas' own errors among them, and OSError."""
    import pandas as pd

    table = pd.read_csv(file, dtype=str, keep_default_na=False, skipinitialspace=True, **settings)
    return table.rename(columns=unguarded).map(unguarded)
