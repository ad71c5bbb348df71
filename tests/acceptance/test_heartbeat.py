"""The heartbeat goes where the configuration says or nowhere: it is bound by what binds webhooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.service import Answer, eventually, service, sink


def complaints(running: Any) -> int:
    return len(running.log_lines("heartbeat.failed"))


def test_a_heartbeat_follows_no_redirect(tmp_path: Path) -> None:
    with sink() as target, sink() as elsewhere:
        target.answer = lambda arrival: Answer(302, {"Location": elsewhere.url})
        with service(tmp_path, heartbeat={"url": target.url, "every": "1s"}) as running:
            running.start()
            eventually(target.seen, lambda found: len(found) >= 2)
            eventually(lambda: complaints(running))
    assert elsewhere.seen() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_heartbeat_reaches_nothing_that_network_deny_names(host: str, tmp_path: Path) -> None:
    with sink() as target:
        beat = {"url": f"http://{host}:{target.port}/", "every": "1s"}
        with service(tmp_path, heartbeat=beat, network={"deny": ["127.0.0.0/8", "::1/128"]}) as running:
            running.start()
            eventually(lambda: complaints(running))
        assert target.seen() == []
