"""Numbers, times and texts as a person reads them."""

from __future__ import annotations

_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """``1 record``, ``12,345 records``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size(count: int) -> str:
    """``512 bytes``, ``1.2 GB``: units of 1,000, as disks and file managers have them."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return (
        f"{value:.1f} {_UNITS[unit]}" if unit and value < 99.95 else f"{value:.0f} {_UNITS[unit]}"
    )


def duration(seconds: float) -> str:
    """``45 ms``, ``2.5 s``, ``48 s``, ``3 min 12 s``, ``1 h 4 min``, ``2 d 3 h``."""
    if seconds < 0.0995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for name, unit, rest, next_unit in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if whole >= unit:
            return f"{whole // unit} {name} {whole % unit // next_unit} {rest}"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def countdown(seconds: float) -> str:
    """``7 s``, ``3 min 12 s``: whole seconds, since it is an estimate."""
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 60 else duration(whole)


def rate(count: float, seconds: float) -> str:
    """``12,345/s``, ``0.4/s``; empty where there is no telling."""
    if not count or seconds <= 0:
        return ""
    value = count / seconds
    return f"{value:,.0f}/s" if value >= 10 else f"{value:.1f}/s"


def share(part: int, whole: int) -> str:
    """``99 %``; rounded down, so that 100 % is all of it."""
    return f"{100 * part // whole} %" if whole else ""


def printable(text: str) -> str:
    """The text on one line, without what a terminal would obey instead of show."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
