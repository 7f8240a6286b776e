"""Points in time as they are stored: UTC in ISO 8601, to the millisecond, so that they sort as text."""

import time
from datetime import UTC, datetime


def utc(seconds: float | None = None) -> str:
    """Return the time `seconds` after the epoch (default: now), such as 2026-01-31T09:05:00.000Z."""
    moment = datetime.fromtimestamp(time.time() if seconds is None else seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
