"""Times that rows bear, judged by a clock that may have been wrong when they were written.

A clock that stood ahead for a minute and was set back leaves times behind that nothing reaches for a year. What waits
for one of them would wait as long, so a time that lies further ahead than anything waits counts as over.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import Mapped

from btcfi.units import UnixSeconds

LONGEST_SECONDS: Final = 600
"""Nothing is written further ahead of the clock: no lease is longer, and nothing rests longer between two attempts."""


def lapsed(
    at: ColumnElement[Any] | Mapped[Any], now: UnixSeconds, seconds: int = 0, *, longest: int = LONGEST_SECONDS
) -> ColumnElement[bool]:
    """Return the condition that ``at`` is ``seconds`` ago or more, or was written by a clock that was wrong.

    at: unix seconds, when something was done (``seconds`` is how long it rests) or until when it holds (0). longest:
    seconds ahead of ``now`` that an honest clock may have written there.
    """
    return or_(at <= now - seconds, at > now + longest)
