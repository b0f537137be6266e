"""Other people's pickles, read without running anything that they ask for.

A pickle is a program. Ours may only name numpy's arrays and plain containers; any other name is
refused before it is imported. Even numpy's own unpickling does not run, since a crafted ``dtype``
state corrupts memory: what would have been arrays are records of bytes, shape and type, from which
we make the arrays. Nor may a small file claim much memory: sizes are checked before anything is
loaded, and what comes out may not be larger than the file by far. We write no pickles.
"""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from cryoem.errors import InputError

_EXPANSION = 8  # an array is as large as in the file, a small number several times as large
_MEMO = ("PUT", "BINPUT", "LONG_BINPUT")
_TYPE_CODE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|c(?:8|16)|[SU]\d{1,6})")


class _Refused(Exception):
    """Something that is not on the list."""


class _Type:
    """Stands for ``numpy.dtype``: a code such as ``f8``, and later the byte order."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not _TYPE_CODE.fullmatch(code):
            raise _Refused(f"an array of type {str(code)[:40]!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for ``numpy.ndarray``: filled by its state, then made into an array."""

    def __init__(self, *_: object) -> None:
        self.array = np.zeros(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, is_fortran, content = state
        self.array = _array(content, kind, shape, "F" if is_fortran else "C")


def _array(content: object, kind: object, shape: tuple[int, ...], order: str) -> np.ndarray:
    if isinstance(content, str):  # bytes of Python 2
        content = content.encode("latin1")
    if not isinstance(kind, _Type) or not isinstance(content, (bytes, bytearray)):
        raise _Refused("an array of objects")
    count = math.prod(shape)
    values = np.frombuffer(content, kind.dtype, count) if count else np.zeros(0, kind.dtype)
    return values.reshape(shape, order="F" if order == "F" else "C").copy()


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _frombuffer(content: object, kind: object, shape: tuple[int, ...], order: str) -> _Array:
    made = _Array()
    made.array = _array(content, kind, shape, order)
    return made


def _scalar(kind: object, content: object) -> Any:
    return _array(content, kind, (), "C")[()]


def _no_bytes() -> bytes:
    """Stand for ``bytes()``, which is how protocols below 3 write an empty one."""
    return b""


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise _Refused(f"_codecs.encode to {encoding}")
    return text.encode("latin1")


# numpy 2 moved its core: pickles of either age name either place.
_ALLOWED: dict[tuple[str, str], Callable] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,  # bytes in protocols below 3
    **{
        (f"numpy.{core}.{module}", function.__name__.removeprefix(prefix)): function
        for core in ("core", "_core")
        for module, function, prefix in (
            ("multiarray", _reconstruct, ""),
            ("multiarray", _scalar, "_"),
            ("numeric", _frombuffer, ""),
        )
    },
    **{(module, "bytes"): _no_bytes for module in ("builtins", "__builtin__")},
}


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _Refused(f"{module}.{name}")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent id (is it a torch checkpoint?)")


def _check_sizes(content: bytes) -> None:
    """Refuse places in the memo beyond the file, for which the unpickler would make room.

    Lengths that the file does not hold end the walk itself.
    """
    for opcode, argument, _ in pickletools.genops(io.BytesIO(content)):
        if opcode.name in _MEMO and int(argument or 0) > len(content):
            raise _Refused(f"an object with the number {argument}")


class _Expansion:
    """Puts the arrays in the places of what stands for them, as long as they are not too many.

    A few bytes can nest references to the same list until it is larger than any memory.
    """

    def __init__(self, limit: int) -> None:
        self.left = limit

    def __call__(self, value: Any) -> Any:
        """Return a copy of nested containers with arrays in them."""
        self.left -= 1 + (value.array.nbytes if isinstance(value, _Array) else 0)
        if self.left < 0:
            raise _Refused("objects that repeat each other without end")
        if isinstance(value, _Array):
            return value.array
        if isinstance(value, (list, tuple)):
            return type(value)(self(item) for item in value)
        if isinstance(value, dict):
            return {key: self(item) for key, item in value.items()}
        return value


def load_pickle(path: str | Path) -> Any:
    """Return the first object in a pickle of numpy arrays and plain containers.

    Raises
    ------
    InputError
        If the file is missing or corrupt, or asks for anything but arrays and containers.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        _check_sizes(content)
        loaded = _RestrictedUnpickler(io.BytesIO(content), encoding="latin1").load()
        return _Expansion(_EXPANSION * len(content))(loaded)
    except _Refused as error:
        raise InputError(
            f"{path}: refused to load {error} from this pickle, only numpy arrays and plain "
            "containers are allowed; save the arrays as .npy or .npz instead"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a corrupt pickle may raise nearly anything
        raise InputError(
            f"{path}: not a readable pickle ({type(error).__name__}); is it complete?"
        ) from error
