"""The ways of writing that a label is missing, the same for sheets and files, RNA and cytometry."""

from typing import Any

import pandas as pd

MISSING = frozenset(("", "na", "n/a", "nan", "none", "null"))


def known(value: str) -> str | None:
    """Return a label, or None for the ways of writing that there is none."""
    return None if value.strip().lower() in MISSING else value.strip()


def labels(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return a column of labels as objects: texts without blanks around them, None where one is missing."""
    codes, values = pd.factorize(column.astype(object))
    found = [known(value) if isinstance(value, str) else value for value in values]
    return pd.Series([*found, None], dtype=object).iloc[codes].set_axis(column.index)
