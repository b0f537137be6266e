"""STAR files as RELION, Warp, cryoSPARC converters and people write them.

The blocks are found by a tokenizer of our own, the rows of a large loop are parsed by pandas' C
engine, and only the columns that somebody asks for. A million particles open in seconds.

Tolerated: any order of blocks, ``loop_`` with blanks after it, labels with or without ``#n``,
comments, tabs, CRLF, quoted values, single-row blocks without a loop. Not tolerated: a row with
too few or too many values, a repeated label.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cryoem.errors import InputError
from cryoem.io.star_words import count_words, is_plain, quoted, raw_words, words

_FIRST_BLOCK = re.compile(rb"[ \t]*(data_\S*)[ \t]*(?=\n|#|\Z)")
_NEXT_BLOCK = re.compile(rb"\n" + _FIRST_BLOCK.pattern)  # a literal start is ten times as fast as ^
_LOOP = re.compile(rb"[ \t]*loop_[ \t]*(?:#.*)?")
_LABEL = re.compile(rb"[ \t]*(_\S+)(.*)")


@dataclass(frozen=True)
class StarBlock:
    """One ``data_`` block with one table: its labels and its rows, still as text.

    ``first_line`` is the line of the file (from 1) on which the rows begin.
    """

    path: Path
    name: str
    labels: tuple[str, ...]
    body: bytes
    first_line: int
    n_rows: int

    def __contains__(self, label: str) -> bool:
        return label in self.labels

    def read(self, numbers: Sequence[str] = (), text: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Return columns, float64 or arrays of ``str`` objects, in one pass over the rows.

        Raises
        ------
        InputError
            If a value is not a number where one is needed; its line is named.
        """
        kinds = dict.fromkeys(numbers, "float64") | dict.fromkeys(text, "str")
        try:
            frame = self._parse(kinds)
        except ValueError:  # says neither which column nor which line
            return self.read(text=text) | {label: self._read_slowly(label) for label in numbers}
        return {
            label: frame[label].to_numpy(dtype=object if kind == "str" else None)
            for label, kind in kinds.items()
        }

    def numbers(self, label: str) -> np.ndarray:
        """Return one column as float64."""
        return self.read(numbers=[label])[label]

    def text(self, label: str) -> np.ndarray:
        """Return one column as an array of ``str`` objects."""
        return self.read(text=[label])[label]

    def raw_rows(self, rows: Iterable[int]) -> Iterator[list[bytes]]:
        """Words of the given rows as they are written, quotes included."""
        split = bytes.split if is_plain(self.body) else raw_words
        listed = [line for line in self.body.split(b"\n") if split(line)]
        for row in rows:
            yield split(listed[row])

    def line_of(self, row: int) -> int:
        """Line of the file on which row ``row`` (from 0) stands."""
        counts = count_words(self.body)
        return self.first_line + int(np.flatnonzero(counts)[row])

    def _parse(self, kinds: dict[str, str]) -> pd.DataFrame:
        labels = list(kinds)
        if not labels:
            return pd.DataFrame(index=range(self.n_rows))
        if not is_plain(self.body):
            rows = [row for line in self.body.split(b"\n") if (row := words(line))]
            return pd.DataFrame(rows, columns=list(self.labels), dtype=str)[labels].astype(kinds)
        return pd.read_csv(
            io.BytesIO(self.body),
            sep=r"\s+",
            header=None,
            names=list(self.labels),
            usecols=labels,
            dtype=kinds,
            quoting=csv.QUOTE_NONE,
            na_filter=False,
            encoding_errors="surrogateescape",
        )[labels]

    def _read_slowly(self, label: str) -> np.ndarray:
        values = self.text(label)
        numbers = np.empty(len(values))
        for row, value in enumerate(values):
            try:
                numbers[row] = float(value)
            except ValueError:
                raise InputError(
                    f"{self.path}: line {self.line_of(row)}, {label}: "
                    f"'{value}' is not a number; correct the row or leave it out"
                ) from None
        return numbers


def read_star(path: str | Path) -> list[StarBlock]:
    """Return the tables of a STAR file in the order of the file. Empty ones are left out.

    Raises
    ------
    InputError
        If the file cannot be read, holds no table, or a table is malformed; the line is named.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if b"\0" in content:
        raise InputError(f"{path}: not a STAR file, it is not text")
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    first = _FIRST_BLOCK.match(content)
    found = [first] if first else []
    found += _NEXT_BLOCK.finditer(content)
    ends = [*(match.start() for match in found), len(content)][1:]
    blocks: list[StarBlock] = []
    for match, end in zip(found, ends, strict=True):
        name = match[1].decode(errors="replace").removeprefix("data_")
        blocks += _parse_block(path, name, content, match.end(), end)
    if not blocks:
        raise InputError(f"{path}: not a STAR file, no 'data_' block with a table in it")
    return blocks


def _parse_block(path: Path, name: str, content: bytes, start: int, end: int) -> list[StarBlock]:
    """Read the labels line by line, then take everything after them as rows."""
    labels: list[str] = []
    values: list[str] = []
    is_loop = False
    position = start
    while position < end:
        stop = content.find(b"\n", position, end)
        stop = end if stop < 0 else stop
        line = content[position:stop]
        label = _LABEL.fullmatch(line)
        if _LOOP.fullmatch(line):
            is_loop = True
        elif label:
            labels.append(label[1].decode(errors="replace"))
            if not is_loop:
                values += _pair_value(path, content, position, label)
        elif line.strip() and not line.lstrip().startswith(b"#"):
            break
        position = stop + 1
    if not labels:
        return []
    first_line = content.count(b"\n", 0, position) + 1
    body = _quote(values)
    if is_loop:
        body = content[position : _end_of_rows(content, position, end)]
    counts = count_words(body)
    _check_block(path, name, labels, counts, first_line)
    n_rows = int((counts > 0).sum())
    return [StarBlock(path, name, tuple(labels), body, first_line, n_rows)] if n_rows else []


def _pair_value(path: Path, content: bytes, position: int, label: re.Match[bytes]) -> list[str]:
    tokens = words(label[2])
    if len(tokens) != 1:
        line = content.count(b"\n", 0, position) + 1
        raise InputError(
            f"{path}: line {line}, {label[1].decode(errors='replace')} has {len(tokens)} values; "
            "one is needed outside a loop_"
        )
    return tokens


def _quote(values: list[str]) -> bytes:
    return " ".join(quoted(value) for value in values).encode(errors="surrogateescape")


def _end_of_rows(content: bytes, start: int, end: int) -> int:
    """Step back over blank and comment lines, such as the version of the next block."""
    while end > start:
        last = max(content.rfind(b"\n", start, end), start)
        line = content[last:end].strip()
        if line and not line.startswith(b"#"):
            break
        end = last
    return end


def _check_block(path: Path, name: str, labels: list[str], counts: np.ndarray, line: int) -> None:
    if len(set(labels)) < len(labels):
        repeated = next(label for label, count in Counter(labels).items() if count > 1)
        raise InputError(f"{path}: block data_{name} has the column {repeated} twice; remove one")
    ragged = np.flatnonzero((counts != len(labels)) & (counts > 0))
    if ragged.size:
        raise InputError(
            f"{path}: line {line + ragged[0]} has {counts[ragged[0]]} values, block data_{name} "
            f"has {len(labels)} columns; correct the line or leave it out"
        )
