"""Moments that other programs write: RFC 3339 text, or a number of seconds or milliseconds. Pure: no clock is read.

Source: spec/local-api.md section 1.3, route 18 (numbers below 4 102 444 800 are seconds).
"""

from __future__ import annotations

import re
from typing import Any

SECONDS_BELOW = 4_102_444_800
"""1 January 2100: a number below is in seconds, any other in milliseconds."""
_LATEST = SECONDS_BELOW * 1000
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(\.\d{1,9})?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_MONTHS = 12
_DAYS_BEFORE = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)


def epoch_seconds(value: Any) -> float:
    """The moment in epoch seconds; 0.0 when the value is none that can be read."""
    if isinstance(value, bool):
        return 0.0
    if isinstance(value, int | float):
        if not 0 < value < _LATEST:
            return 0.0
        return float(value) if value < SECONDS_BELOW else value / 1000
    match = _RFC3339.fullmatch(value.strip()) if isinstance(value, str) else None
    return _of_text(match) if match else 0.0


def _of_text(match: re.Match[str]) -> float:
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if not 1 <= month <= _MONTHS or not 1 <= day <= 31 or hour > 23 or minute > 59 or second > 60:
        return 0.0
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400
    days += _DAYS_BEFORE[month - 1] + (leap and month > 2) + day - 1
    offset = 0
    if match[9]:
        offset = (int(match[10]) * 60 + int(match[11])) * (1 if match[9] == "+" else -1)
    seconds = (days - 719_162) * 86_400 + hour * 3600 + minute * 60 + second - offset * 60
    return max(0.0, seconds + float(match[7] or 0))


def rfc3339(epoch_s: float) -> str:
    """A moment in UTC with milliseconds: `2026-01-01T10:00:00.000Z`."""
    millis = max(0, round(epoch_s * 1000))
    days, rest = divmod(millis, 86_400_000)
    year, month, day = _date(days)
    hour, rest = divmod(rest, 3_600_000)
    minute, rest = divmod(rest, 60_000)
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{rest // 1000:02}.{rest % 1000:03}Z"


def _date(days: int) -> tuple[int, int, int]:
    """The date so many days after 1 January 1970. Years begin in March here, so that the leap day is the last of its year."""
    days += 719_468
    era, of_era = divmod(days, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    is_next = month >= 10
    return 400 * era + year + is_next, month - 9 if is_next else month + 3, of_year - (153 * month + 2) // 5 + 1
