"""Where a verb computes."""

import torch

from cryoem.errors import InputError


def choose_device(name: str | None) -> torch.device:
    """Return the device of that name; a GPU if there is one, where none is named.

    Raises
    ------
    InputError
        If it cannot be used.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device {name}: cannot be used ({reason})") from error
