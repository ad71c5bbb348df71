"""`Retry-After`, as webhooks and status queries read it: seconds or a date, an hour at most, None for anything else."""

from __future__ import annotations

import time

import pytest

from engine.core.retry_after import http_date_s, retry_after_s


@pytest.mark.parametrize(
    ("header", "pause_s"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("3600", 3600.0),
        ("3601", 3600.0),
        ("9" * 5_000, 3600.0),
        ("0000000000007", 7.0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 50.0),
        ("Thursday, 01-Jan-70 00:01:00 GMT", 50.0),
        ("Thu Jan  1 00:01:00 1970", 50.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("Thu, 01 Jan 2099 00:00:00 GMT", 3600.0),
    ],
)
def test_it_is_read_as_seconds_or_as_a_date(header: str, pause_s: float) -> None:
    assert retry_after_s(header, 10.0) == pause_s


@pytest.mark.parametrize("header", [None, "", " ", "soon", "-5", "٣", "1e3", "1.5", "Thu, 99 Jan 1970 00:01:00 GMT"])
def test_anything_else_is_none(header: str | None) -> None:
    assert retry_after_s(header, 10.0) is None


def test_a_date_without_a_time_zone_is_utc_wherever_the_process_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        monkeypatch.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        assert http_date_s("Thu, 01 Jan 1970 00:01:00") == http_date_s("Thu, 01 Jan 1970 00:01:00 -0000") == 60.0
    finally:
        monkeypatch.undo()
        time.tzset()
