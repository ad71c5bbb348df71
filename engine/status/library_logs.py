"""Keeps signed requests out of every log: HTTP libraries write URLs and headers to the standard logger at level debug.

This is the only use of the standard logger here. It applies in any process that imports `StatusClient`, not only in the service,
so it acts on the libraries' own loggers and not on the engine's log.
"""

from __future__ import annotations

import logging


def _holds_no_signature(record: logging.LogRecord) -> bool:
    return "signature=" not in record.getMessage()


def hide_signed_urls() -> None:
    """Drop the lines of urllib3 that hold a signed URL, at any level."""
    # The second one warns of headers that it cannot parse, and names the URL.
    for name in ("urllib3.connectionpool", "urllib3.connection"):
        logging.getLogger(name).addFilter(_holds_no_signature)


def hide_signed_headers() -> None:
    """Drop the lines below warning of the vendor's SDK: they hold signed headers."""
    logging.getLogger("darabonba-core").setLevel(logging.WARNING)
