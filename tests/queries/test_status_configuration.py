"""The keys `status` and `reconcile`: what they mean, and what is said about what cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.config.loader import Config, load_config
from engine.errors import InvalidFiles

STATUS = {
    "provider": "route",
    "endpoint": "mqtt.example.com",
    "instance": "mqtt-cn-1",
    "access_key": {"file": "key"},
    "secret": {"file": "key"},
}
MONDAY_MS = 1_767_571_200_000  # 2026-01-05T00:00:00Z
HOUR_MS = 3_600_000


def loaded(folder: Path, **config: Any) -> Config:
    (folder / "key").write_text("k")
    (folder / "config.yaml").write_text(json.dumps({"version": 1, **config}))
    return load_config(folder / "config.yaml")


def refused(folder: Path, **config: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidFiles) as caught:
        loaded(folder, **config)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_without_status_nobody_is_asked(tmp_path: Path) -> None:
    found = loaded(tmp_path, status=None, reconcile=None)
    assert (found.status, found.reconcile) == (None, None)


def test_the_defaults_are_those_of_the_contract(tmp_path: Path) -> None:
    found = loaded(tmp_path, status=STATUS).status
    assert found is not None
    assert (found.rate, found.unknown_retries, found.confirm_after_ms) == (100, 3, 5_000)
    assert found.access_key.reveal() == "k"
    assert "k" not in repr(found.secret)


@pytest.mark.parametrize(
    ("changed", "path", "said"),
    [
        ({"rate": 301}, "status.rate", "must be at most 300, not `301`"),
        ({"rate": 0}, "status.rate", "must be at least 1, not `0`"),
        ({"provider": "onsmqtt"}, "status.provider", "must be one of route, openapi, not `onsmqtt`; write `openapi`"),
        ({"endpoint": "http://host/path"}, "status.endpoint", "must be a host, HOST:PORT, or an http or https address without a path"),
        ({"endpoint": "host:99999"}, "status.endpoint", "must be HOST"),
        ({"endpoint": None}, "status.endpoint", "must be a host, HOST:PORT"),
        ({"acces_key": {"file": "key"}}, "status.acces_key", "unknown key `acces_key`; did you mean `access_key`?"),
        ({"secret": "literal"}, "status.secret", "secret"),
        ({"confirm_after": "5"}, "status.confirm_after", "duration"),
        ({"confirm_after": "0s"}, "status.confirm_after", "must be longer than 0"),
    ],
)  # fmt: skip
def test_a_status_section_that_cannot_be_is_told(tmp_path: Path, changed: dict[str, Any], path: str, said: str) -> None:
    ((where, message),) = refused(tmp_path, status=STATUS | changed)
    assert where == path
    assert said in message


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    told = refused(tmp_path, status={"provider": "route"})
    assert [message for _, message in told] == [
        f"`{name}` is missing" for name in ("endpoint", "instance", "access_key", "secret")
    ]


@pytest.mark.parametrize(
    ("plan", "path", "said"),
    [
        ({}, "reconcile", "either `cron` or `every`"),
        ({"cron": "0 * * * *", "every": "1h"}, "reconcile", "either `cron` or `every`"),
        ({"cron": "0 25 * * *"}, "reconcile.cron", "hour"),
        ({"cron": "0 * * *"}, "reconcile.cron", "5"),
        ({"cron": "0 * * * *", "timezone": "Europe/Berlim"}, "reconcile.timezone", "did you mean `Europe/Berlin`?"),
        ({"every": "1h", "timezone": "UTC"}, "reconcile.timezone", "can be used only with `cron`"),
        ({"every": "0s"}, "reconcile.every", "must be"),
        ({"every": "1h", "catch_up": "always"}, "reconcile.catch_up", "once, skip"),
        ({"interval": "1h", "every": "1h"}, "reconcile", "either `cron` or `every`"),
    ],
)
def test_a_plan_that_cannot_be_is_told(tmp_path: Path, plan: dict[str, Any], path: str, said: str) -> None:
    where, message = refused(tmp_path, status=STATUS, reconcile=plan)[0]
    assert where == path
    assert said in message


@pytest.mark.parametrize("key", ["every", "interval"])
def test_an_interval_may_be_written_in_both_words(tmp_path: Path, key: str) -> None:
    plan = loaded(tmp_path, status=STATUS, reconcile={key: "1h"}).reconcile
    assert plan is not None
    assert plan.ticks.next_after(MONDAY_MS) - MONDAY_MS <= HOUR_MS


def test_a_plan_needs_somebody_to_ask(tmp_path: Path) -> None:
    ((where, message),) = refused(tmp_path, reconcile={"every": "1h"})
    assert (where, "`status`" in message) == ("reconcile", True)


@pytest.mark.parametrize("sunday", ["0", "7", "sun"])
def test_weekday_numbers_are_those_of_unix(tmp_path: Path, sunday: str) -> None:
    plan = loaded(tmp_path, status=STATUS, reconcile={"cron": f"0 6 * * {sunday}"}).reconcile
    assert plan is not None
    assert plan.ticks.next_after(MONDAY_MS) == MONDAY_MS + 6 * 24 * HOUR_MS + 6 * HOUR_MS


def test_hours_of_a_plan_are_those_of_its_time_zone(tmp_path: Path) -> None:
    plan = loaded(tmp_path, status=STATUS, reconcile={"cron": "0 6 * * *", "timezone": "Europe/Berlin"}).reconcile
    assert plan is not None and plan.catches_up
    assert plan.ticks.next_after(MONDAY_MS) == MONDAY_MS + 5 * HOUR_MS


def test_max_hold_has_its_effect_with_somebody_to_ask_and_a_warning_without(tmp_path: Path) -> None:
    assert loaded(tmp_path, status=STATUS, feed={"max_hold": "2m"}).warnings == ()
    (warning,) = loaded(tmp_path, feed={"max_hold": "2m"}).warnings
    assert (warning.path, "without `status`" in warning.message) == ("feed.max_hold", True)


def test_a_secret_that_is_not_there_is_a_warning_and_what_a_provider_lacks_stops_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.config.status.PACKAGES", {"openapi": "no_such_package"})
    found = loaded(tmp_path, status=STATUS | {"provider": "openapi", "secret": {"env": "NO_SUCH_VARIABLE"}})
    assert [(problem.path, problem.message) for problem in found.warnings] == [
        ("status.secret", "the environment variable NO_SUCH_VARIABLE is not set")
    ]
    (lack,) = found.missing_packages
    assert (lack.path, lack.message) == (
        "status.provider",
        "needs the package no_such_package: pip install 'rollcall-presence[openapi]'",
    )
