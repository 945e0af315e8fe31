"""Numbers and labels from text: CSV, TSV and columns between blanks."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fitting.data.arrays import check_size, existing
from fitting.errors import InputError


def read_text(path: str | Path) -> str:
    """The text of a file in UTF-8; refuses anything else."""
    path = existing(path)
    try:
        check_size(4.0 * path.stat().st_size, str(path))
        return path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} is not a text file: {error}") from None


def read_json(path: str | Path) -> dict[str, Any]:
    """The fields of a JSON file."""
    try:
        fields = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not a readable JSON file: {error}") from None
    if not isinstance(fields, dict):
        raise InputError(f"{path} must hold one JSON object; it holds a {type(fields).__name__}")
    return fields


def field(fields: Mapping[str, Any], names: Iterable[str], what: str | Path) -> tuple[str, str]:
    """Name and text of the one field of a JSON file that has any of some names, in small or large letters."""
    told = {key: value for key, value in fields.items() if key.lower() in names}
    for key, value in told.items():
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{what}: {key} must be a text; got {value!r:.60}")
    if len(set(told.values())) > 1:
        raise InputError(f"{what} holds {' and '.join(told)}, which differ; which is meant cannot be told")
    return next(((key, value.strip()) for key, value in told.items()), ("", ""))


def rows_of(text: str, what: str) -> list[list[str]]:
    """Cells of a text, by tabs, commas or blanks, whichever its first line has."""
    first = text.lstrip().partition("\n")[0]
    if ";" in first and "\t" not in first:
        raise InputError(
            f"{what} separates its columns by semicolons, as spreadsheets do where numbers have decimal commas; save "
            f"it with commas or tabs between columns, and decimal points"
        )
    try:
        if "\t" in first or "," in first:
            rows = list(csv.reader(text.splitlines(), delimiter="\t" if "\t" in first else ","))
        else:
            rows = [line.split() for line in text.splitlines()]
    except csv.Error as error:
        raise InputError(f"{what} is not a readable CSV file: {error}") from None
    return [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]


def numbers_of(rows: list[list[str]], what: str, names: list[str] | None = None) -> np.ndarray:
    """A matrix of numbers; refuses ragged rows and text."""
    if not rows:
        raise InputError(f"{what} is empty; a row of numbers is needed")
    for i, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise InputError(f"{what}: row {i} (from 0) has {len(row)} values, the first has {len(rows[0])}")
    matrix = np.empty((len(rows), len(rows[0])))
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            try:
                matrix[i, j] = number(cell)
            except ValueError:
                where = f"row {names[i]}, column {names[j]}" if names else f"row {i}, column {j} (from 0)"
                hint = "; write decimal points" if re.fullmatch(r"-?\d+,\d+", cell) else ""
                hint = hint if cell.strip() else "; leave the region out, or fill the gap"
                raise InputError(f"{what}: {cell[:40]!r} in {where}, is not a number{hint}") from None
    return matrix


def read_matrix(path: str | Path) -> np.ndarray:
    """A matrix of plain numbers, without labels."""
    return numbers_of(rows_of(read_text(path), str(path)), str(path))


def number(cell: str) -> float:
    """The number in a cell; unlike Python, no ``1_0`` for 10."""
    if "_" in cell:
        raise ValueError(f"{cell!r} is not a number")
    return float(cell)


def is_number(cell: str) -> bool:
    """Whether a cell holds a number."""
    try:
        number(cell)
    except ValueError:
        return False
    return True


def read_labelled_matrix(path: str | Path) -> tuple[np.ndarray, list[str]]:
    """A square matrix with labels in its first row and first column.

    Returns
    -------
    matrix : ndarray
    labels : list of str
    """
    rows = rows_of(read_text(path), str(path))
    if len(rows) < 2:
        raise InputError(f"{path} is empty; a first row of labels and one row per region are needed")
    columns = rows[0][1:]
    if columns and all(is_number(cell) for cell in rows[0]):
        raise InputError(f"{path} has no labels: its first row and first column must name the regions")
    labels = [row[0] for row in rows[1:]]
    for row in rows[1:]:
        if len(row) != len(rows[0]):
            raise InputError(f"{path}: row {row[0]!r} has {len(row) - 1} values but there are {len(columns)} columns")
    if len(rows) - 1 != len(columns):
        raise InputError(f"{path}: the matrix is not square: {len(rows) - 1} rows and {len(columns)} columns")
    if labels != columns:
        where = next(i for i, (a, b) in enumerate(zip(labels, columns, strict=True)) if a != b)
        raise InputError(
            f"{path}: rows and columns must have the same labels in the same order; "
            f"row {where} is {labels[where]!r}, column {where} is {columns[where]!r}"
        )
    return numbers_of([row[1:] for row in rows[1:]], str(path), labels), labels


def read_columns(path: str | Path) -> tuple[np.ndarray, list[str]]:
    """Columns of numbers below a row of names.

    Returns
    -------
    values : ndarray (row, column)
    names : list of str
    """
    rows = rows_of(read_text(path), str(path))
    if len(rows) < 2:
        raise InputError(f"{path} is empty; a first row of labels and one row per sample are needed")
    if all(is_number(cell) for cell in rows[0]):
        raise InputError(f"{path} has no labels: its first row must name the columns")
    if len(rows[1]) != len(rows[0]):
        raise InputError(f"{path}: the first row names {len(rows[0])} columns, the second has {len(rows[1])} values")
    if [row[0] for row in rows[1:]] == rows[0][1:]:
        raise InputError(f"{path} has the same names along both sides: it seems to be a matrix of regions, not signals")
    return numbers_of(rows[1:], str(path)), rows[0]
