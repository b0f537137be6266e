"""What a command line or a file of ``conf/hparams`` varies, in Hydra's own grammar.

``1,2,4``, ``range(1,4)``, ``interval(0.1,10)``, ``tag(log,interval(0.1,10))`` and, for whole
numbers, ``int(interval(1,8))``.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import OverrideParseException

from cryoem.errors import InputError
from cryoem.sweeps.space import Choices, Interval, Space


def split(overrides: list[str]) -> tuple[dict[str, str], Space]:
    """Part the overrides of a command line into single values, as they are written, and a space."""
    fixed: dict[str, str] = {}
    space: Space = {}
    for override in _parse(overrides):
        if override.is_sweep_override():
            space[override.get_key_element()] = _axis(override)
        else:
            assert override.input_line is not None
            fixed[override.get_key_element()] = override.input_line
    return fixed, space


def space_of(entries: Mapping[str, str]) -> Space:
    """The space that ``hparams.space`` describes."""
    parsed = _parse([f"{key}={value}" for key, value in entries.items()])
    return {override.get_key_element(): _axis(override) for override in parsed}


def _parse(overrides: list[str]) -> Iterable[Override]:
    try:
        return OverridesParser.create().parse_overrides(overrides)
    except OverrideParseException as error:
        raise InputError(
            f"cannot read {error.override!r}: expected key=value, key=a,b,c or "
            "key=tag(log,interval(low,high))"
        ) from error


def _axis(override: Override) -> Choices | Interval:
    if override.is_interval_sweep():
        value: Any = override.value()
        whole = isinstance(value.start, int) and isinstance(value.end, int)
        return Interval(float(value.start), float(value.end), "log" in value.tags, whole)
    if override.is_sweep_override():
        return Choices(tuple(override.sweep_string_iterator()))
    return Choices((override.get_value_element_as_str(),))
