"""Units of time: the one place that knows their names and how long each lasts.

Rates are stored per the time unit of the data they belong to, so that nobody has to fit numbers of size 1e-4; a
conversion goes through seconds: `value [to] = value [from] * TIME_UNITS[from] / TIME_UNITS[to]`.
"""

from __future__ import annotations

from pinnsim.errors import PinnsimError, did_you_mean

TIME_UNITS: dict[str, float] = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds per unit."""

_SPELLINGS: dict[str, str] = {
    **{name: name for name in TIME_UNITS},
    **dict.fromkeys(("sec", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("day", "days"), "d"),
}


def known_time_unit(text: str) -> str | None:
    """The house name (`s`, `min`, `h`, `d`) of a unit in any common spelling, or None if it is not one."""
    return _SPELLINGS.get(str(text).strip().lower())


def time_unit_of(text: str) -> str:
    """The house name of a unit of time.

    **Arguments:** `text`, a unit in any common spelling ("minutes", "hr").

    **Returns:** one of `TIME_UNITS`.

    **Raises:** `E_TIME_UNIT` for anything else.
    """
    unit = known_time_unit(text)
    if unit is None:
        raise PinnsimError.of(
            "E_TIME_UNIT",
            f"unknown time unit '{text}'{did_you_mean(text, _SPELLINGS)}; use one of {', '.join(TIME_UNITS)}.",
        )
    return unit


def time_factor(source: str, to: str) -> float:
    """How many `to` units one `source` unit lasts: `duration[to] = duration[source] * time_factor(source, to)`.

    A rate converts by the inverse. **Raises** `E_TIME_UNIT` for an unknown unit.
    """
    return TIME_UNITS[time_unit_of(source)] / TIME_UNITS[time_unit_of(to)]


def reading_unit(scale: str) -> str:
    """The unit of readings on a data set's scale; amounts that were not counted have none but an arbitrary one."""
    return "arbitrary units" if scale == "linear" else scale
