"""Words on the lines of a STAR file: where they begin, how many there are, how they are quoted."""

import re
from collections.abc import Iterator

import numpy as np

_WORD = re.compile(rb'"(.*?)"(?=\s|$)|\'(.*?)\'(?=\s|$)|(\S+)')
_CHUNK = 1 << 23


def is_plain(body: bytes) -> bool:
    """Whether words are simply what blanks separate: no quotes or comments, no odd blanks."""
    special = any(mark in body for mark in (b'"', b"'", b"#", b"\x0b", b"\x0c"))
    return not special or re.search(rb"(?:^|\s)[\"'#]|[\x0b\x0c]", body) is None


def raw_words(line: bytes) -> list[bytes]:
    """Words as they are written, quotes included, up to a comment."""
    return [match[0] for match in _matches(line)]


def words(line: bytes) -> list[str]:
    """Words without their quotes, up to a comment."""
    found = (
        next(group for group in match.groups() if group is not None) for match in _matches(line)
    )
    return [word.decode(errors="surrogateescape") for word in found]


def _matches(line: bytes) -> Iterator[re.Match[bytes]]:
    for match in _WORD.finditer(line):
        if match[3] is not None and match[3].startswith(b"#"):
            return
        yield match


def quoted(value: str) -> str:
    """Return a value as it must be written: quoted if it is empty or could be misread."""
    if re.fullmatch(r"(?![\"'#_]|data_|loop_)\S+", value, re.ASCII):
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'


def count_words(body: bytes) -> np.ndarray:
    """Return the number of words on each line."""
    if not is_plain(body):
        return np.array([len(raw_words(line)) for line in body.split(b"\n")])
    return np.concatenate([_count_plain(chunk) for chunk in _whole_lines(body)])


def _whole_lines(body: bytes) -> Iterator[np.ndarray]:
    """Cut the text at ends of lines into pieces of a few megabytes, so that masks stay small."""
    position = 0
    while position < len(body):
        cut = body.find(b"\n", position + _CHUNK)
        stop = len(body) if cut < 0 else cut + 1
        yield np.frombuffer(body, np.uint8, stop - position, position)
        position = stop
    if not body:
        yield np.zeros(0, np.uint8)


def _count_plain(text: np.ndarray) -> np.ndarray:
    newline = text == ord("\n")
    blank = newline | (text == ord(" ")) | (text == ord("\t"))
    starts = ~blank
    starts[1:] &= blank[:-1]
    before = np.searchsorted(np.flatnonzero(starts), np.flatnonzero(newline))
    counts = np.diff(np.concatenate([[0], before, [starts.sum()]]))
    return counts[:-1] if text.size and newline[-1] else counts
