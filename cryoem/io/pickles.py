"""Other people's pickles, read without running anything that they ask for.

A pickle is a program. Ours may only rebuild numpy arrays and plain containers; any other name in
it is refused before it is imported. We write none.
"""

import pickle
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cryoem.errors import InputError

# numpy 2 moved its core; pickles of either age name either place.
_CORE = next(name for name in ("numpy._core", "numpy.core") if find_spec(name))
_MULTIARRAY, _NUMERIC = (import_module(f"{_CORE}.{name}") for name in ("multiarray", "numeric"))
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{
        (f"{core}.{module.__name__.rpartition('.')[2]}", name): getattr(module, name)
        for core in ("numpy.core", "numpy._core")
        for module, name in (
            (_MULTIARRAY, "_reconstruct"),
            (_MULTIARRAY, "scalar"),
            (_NUMERIC, "_frombuffer"),
        )
    },
    **{
        (module, name): kind
        for module in ("builtins", "__builtin__")
        for name, kind in {
            "list": list,
            "tuple": tuple,
            "dict": dict,
            "set": set,
            "frozenset": frozenset,
            "slice": slice,
            "complex": complex,
            "bytearray": bytearray,
        }.items()
    },
}


class _Refused(Exception):
    """A name that is not on the list."""


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "_codecs" and name == "encode":  # bytes in protocols below 3
            return _encode_latin1
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent id (is it a torch checkpoint?)")


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise _Refused(f"_codecs.encode to {encoding}")
    return text.encode("latin1")


def load_pickle(path: str | Path) -> Any:
    """Return the first object in a pickle of numpy arrays and plain containers.

    Raises
    ------
    InputError
        If the file is missing or corrupt, or asks for anything but arrays and containers.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _load(file)
    except _Refused as error:
        raise InputError(
            f"{path}: refused to load {error} from this pickle, only numpy arrays and plain "
            "containers are allowed; save the arrays as .npy or .npz instead"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a corrupt pickle may raise nearly anything
        raise InputError(f"{path}: not a readable pickle ({type(error).__name__})") from error


def _load(file: BinaryIO) -> Any:
    return _RestrictedUnpickler(file, encoding="latin1").load()
