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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cryoem.errors import InputError

_FIRST_BLOCK = re.compile(rb"[ \t]*(data_\S*)[ \t]*(?=\n|#|\Z)")
_NEXT_BLOCK = re.compile(rb"\n" + _FIRST_BLOCK.pattern)  # a literal start is ten times as fast as ^
_LOOP = re.compile(rb"[ \t]*loop_[ \t]*(?:#.*)?")
_LABEL = re.compile(rb"[ \t]*(_\S+)(.*)")
_TOKEN = re.compile(r'"(.*?)"(?=\s|$)|\'(.*?)\'(?=\s|$)|(\S+)', re.ASCII)
_CHUNK = 1 << 23


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

    def __contains__(self, label: str) -> bool:
        return label in self.labels

    def numbers(self, label: str) -> np.ndarray:
        """Return one column as float64."""
        try:
            return self._columns([label], "float64")[label].to_numpy()
        except ValueError:
            return self._numbers_one_by_one(label)

    def text(self, label: str) -> np.ndarray:
        """Return one column as an array of ``str`` objects."""
        return self._columns([label], "str")[label].to_numpy(dtype=object)

    def table(self) -> pd.DataFrame:
        """Return all columns as text, labels as column names."""
        return self._columns(list(self.labels), "str")

    def numeric_table(self, labels: Sequence[str]) -> dict[str, np.ndarray]:
        """Return several columns as float64 in one pass over the text."""
        try:
            frame = self._columns(list(labels), "float64")
        except ValueError:
            return {label: self._numbers_one_by_one(label) for label in labels}
        return {label: frame[label].to_numpy() for label in labels}

    def line_of(self, row: int) -> int:
        """Line of the file on which row ``row`` (from 0) stands."""
        counts = _tokens_per_line(self.body)
        return self.first_line + int(np.flatnonzero(counts)[row])

    def _columns(self, labels: list[str], kind: str) -> pd.DataFrame:
        if _needs_tokenizer(self.body):
            rows = [
                _tokens(line) for line in self.body.decode(errors="surrogateescape").split("\n")
            ]
            frame = pd.DataFrame([row for row in rows if row], columns=list(self.labels), dtype=str)
            return frame[labels].astype(kind)
        return pd.read_csv(
            io.BytesIO(self.body),
            sep=r"\s+",
            header=None,
            names=list(self.labels),
            usecols=labels,
            dtype=dict.fromkeys(labels, kind),
            quoting=csv.QUOTE_NONE,
            na_filter=False,
            encoding_errors="surrogateescape",
        )[labels]

    def _numbers_one_by_one(self, label: str) -> np.ndarray:
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
    body = _strip_trailing_comments(content[position:end]) if is_loop else _quote(values)
    block = StarBlock(path, name, tuple(labels), body, first_line)
    _check_block(block)
    return [block] if block.body else []


def _pair_value(path: Path, content: bytes, position: int, label: re.Match[bytes]) -> list[str]:
    tokens = _tokens(label[2].decode(errors="surrogateescape"))
    if len(tokens) != 1:
        line = content.count(b"\n", 0, position) + 1
        raise InputError(
            f"{path}: line {line}, {label[1].decode(errors='replace')} has {len(tokens)} values; "
            "one is needed outside a loop_"
        )
    return tokens


def _quote(values: list[str]) -> bytes:
    return " ".join(quoted(value) for value in values).encode(errors="surrogateescape")


def quoted(value: str) -> str:
    """Return a value as it must be written: quoted if it is empty or holds blanks."""
    if re.fullmatch(r"(?![\"'#_]|data_|loop_)\S+", value, re.ASCII):
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'


def _strip_trailing_comments(body: bytes) -> bytes:
    """Drop blank and comment lines at the end, such as the next block's version."""
    body = body.rstrip()
    while True:
        last = body.rfind(b"\n") + 1
        if not body[last:].lstrip().startswith(b"#"):
            return body
        body = body[:last].rstrip()


def _check_block(block: StarBlock) -> None:
    repeated = {label for label in block.labels if block.labels.count(label) > 1}
    if repeated:
        raise InputError(
            f"{block.path}: block data_{block.name} has the column {min(repeated)} twice; "
            "remove one"
        )
    if _needs_tokenizer(block.body):
        lines = block.body.decode(errors="surrogateescape").split("\n")
        counts = np.array([len(_tokens(line)) for line in lines])
    else:
        counts = _tokens_per_line(block.body)
    ragged = np.flatnonzero((counts != len(block.labels)) & (counts > 0))
    if ragged.size:
        raise InputError(
            f"{block.path}: line {block.first_line + ragged[0]} has {counts[ragged[0]]} values, "
            f"block data_{block.name} has {len(block.labels)} columns; correct the line or leave "
            "it out"
        )


def _needs_tokenizer(body: bytes) -> bool:
    """Whether a quote or a comment begins somewhere, or a blank that is not one for pandas."""
    special = any(mark in body for mark in (b'"', b"'", b"#", b"\x0b", b"\x0c"))
    return special and re.search(rb"(?:^|\s)[\"'#]|[\x0b\x0c]", body) is not None


def _tokens(line: str) -> list[str]:
    tokens = []
    for match in _TOKEN.finditer(line):
        if match[3] is not None and match[3].startswith("#"):
            break
        tokens.append(next(group for group in match.groups() if group is not None))
    return tokens


def _tokens_per_line(body: bytes) -> np.ndarray:
    """Count the words on each line, a few megabytes at a time."""
    counts = []
    position = 0
    while position < len(body):
        cut = body.find(b"\n", position + _CHUNK)
        stop = len(body) if cut < 0 else cut + 1
        text = np.frombuffer(body, np.uint8, stop - position, position)
        blank = (text == 32) | (text == 9) | (text == 10)
        starts = ~blank
        starts[1:] &= blank[:-1]
        ends = np.flatnonzero(text == 10)
        bounds = np.searchsorted(np.flatnonzero(starts), ends)
        last = [] if text[-1] == 10 else [int(starts.sum())]
        counts.append(np.diff(np.concatenate([[0], bounds, last]).astype(np.int64)))
        position = stop
    return np.concatenate(counts) if counts else np.zeros(0, dtype=np.int64)
