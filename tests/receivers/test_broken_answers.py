"""An answer that is cut off is no success where only the body tells success from failure."""

from __future__ import annotations

import pytest

from engine.actions.receivers.base import HttpAnswer
from engine.actions.receivers.table import SERVICES
from engine.core.delivery import RetryLater
from tests.receivers.neighbours import message


@pytest.mark.parametrize("service", ["slack", "telegram", "dingtalk", "feishu", "wecom"])
@pytest.mark.parametrize("body", [b'{"ok": false, "errcode": 3', b' {"ok": false, "code": ' + b"9" * 5_000 + b"}"])
def test_a_broken_object_is_tried_again(service: str, body: bytes) -> None:
    answer = HttpAnswer(status=200, headers={}, body=body, now_s=0.0)
    assert isinstance(SERVICES[service].judge(message(), answer), RetryLater)
