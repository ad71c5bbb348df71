"""What HTTP libraries log of a signed request is in no log, whatever the process has set up."""

from __future__ import annotations

import logging

import pytest

from engine.status.library_logs import hide_signed_headers, hide_signed_urls


def test_lines_of_urllib3_with_a_signature_are_dropped_and_others_stay(caplog: pytest.LogCaptureFixture) -> None:
    hide_signed_urls()
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("urllib3.connectionpool").debug("GET %s", "/route/clientId/get?signature=abc")
        logging.getLogger("urllib3.connectionpool").debug("GET %s", "/v1/clients")
    assert caplog.messages == ["GET /v1/clients"]


def test_the_sdk_of_the_vendor_logs_warnings_only(caplog: pytest.LogCaptureFixture) -> None:
    hide_signed_headers()
    caplog.handler.setLevel(logging.DEBUG)
    logging.getLogger("darabonba-core").debug("authorization: %s", "abc")
    logging.getLogger("darabonba-core").warning("slow")
    assert caplog.messages == ["slow"]
