"""Times as snoopy writes them: UTC, RFC 3339, with the nanoseconds that captures carry."""

from datetime import UTC, datetime

NANOSECONDS = 1_000_000_000


def rfc3339(ns: int) -> str:
    """Give nanoseconds since the Unix epoch as RFC 3339 text in UTC, such as 2026-01-31T09:15:00.000000001Z."""
    seconds, fraction = divmod(ns, NANOSECONDS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def nanoseconds(text: str) -> int:
    """Give RFC 3339 text, with any number of decimals up to nine, as nanoseconds since the Unix epoch.

    Raises:
        ValueError: the text is no RFC 3339 time in UTC.

    """
    whole, _, fraction = text.removesuffix("Z").partition(".")
    moment = datetime.strptime(whole + "Z", "%Y-%m-%dT%H:%M:%S%z")
    return int(moment.timestamp()) * NANOSECONDS + int(fraction.ljust(9, "0") or 0)
