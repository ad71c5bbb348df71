"""Apprise, where it is installed, against a loopback server that takes its JSON."""

from __future__ import annotations

import pytest

from engine.actions.receivers import apprise as receiver
from engine.core.delivery import Delivered, Rejected, RetryLater
from tests.receivers.neighbours import message
from tests.receivers.stand_in import Came, Loopback, Reply, Shown, StandIn

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the library


class JsonStandIn(StandIn):
    """What Apprise's own `json://` sends."""

    def take(self, came: Came) -> Reply:
        body = came.json()
        self.shown.append(Shown(text=f"{body['type']}: {body['title']}\n{body['message']}"))
        return Reply(status=200)


@pytest.fixture
def url(server: Loopback) -> str:
    pytest.importorskip("apprise")
    server.stand_ins["json"] = JsonStandIn()
    return server.url.replace("http://", "json://") + "/json"


def test_a_firing_and_its_recovery_are_delivered(server: Loopback, url: str) -> None:
    assert receiver.send(message(text="@all <b>offline</b>"), {"url": url}) == Delivered()
    assert receiver.send(message(phase="recovery"), {"url": url}) == Delivered()
    firing, recovery = [shown.text for shown in server.stand_ins["json"].shown]
    assert firing.startswith("failure: ")
    assert recovery.startswith("success: ")
    assert "＠all ＜b>offline＜/b>" in firing
    assert "incident pump-offline:01JD7Q" in firing


def test_a_service_that_fails_is_tried_again(server: Loopback, url: str) -> None:
    server.stand_ins["json"].unhappy.append(Reply(status=500))
    assert isinstance(receiver.send(message(), {"url": url}), RetryLater)


def test_an_address_that_it_does_not_know_is_refused(url: str) -> None:
    answer = receiver.send(message(), {"url": "nosuchservice://x"})
    assert isinstance(answer, Rejected)
    assert "nosuchservice" not in answer.reason


def test_a_target_names_the_kind_and_no_secret() -> None:
    assert receiver.target({"url": "pover://user@token"}) == "apprise://pover"
