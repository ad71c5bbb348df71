"""The seam that every provider of the synchronous status query plugs into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from engine.errors import RollcallError


class AskingFailed(RollcallError):
    """A query got no answer that can be used; the message is a sentence for people and holds no secret.

    `throttled`: we were told to slow down, and for `retry_after_s` seconds where that was said. `lasting`: asking again will
    end alike until somebody mends something (wrong credentials, a clock that is off, no permission). `answered`: something
    came back; False after a timeout or a broken connection, when the call may still be on its way (see `Budget.done`).
    """

    def __init__(
        self,
        message: str,
        *,
        throttled: bool = False,
        lasting: bool = False,
        retry_after_s: float | None = None,
        answered: bool = True,
    ) -> None:
        super().__init__(message)
        self.throttled = throttled
        self.lasting = lasting
        self.retry_after_s = retry_after_s
        self.answered = answered


class Provider(Protocol):
    """Answers for clients, synchronously; called from several threads at once. One call of a method is one call of the service."""

    batch_size: int
    """Clients that `query_many` takes at once; 1: it has no batches."""

    def query(self, client: str) -> int | None:
        """How many connections the client has; None: the service does not know. Exact. Raises AskingFailed."""
        ...

    def query_many(self, clients: Sequence[str]) -> Mapping[str, int | None]:
        """The same for several, from a cache that may be behind; clients may be missing. Raises AskingFailed."""
        ...

    def close(self) -> None:
        """Give up connections."""
        ...


def must_be_text(*clients: str) -> None:
    """AskingFailed for an id that no request can hold: half of a surrogate pair, as a broken command line gives."""
    try:
        "".join(clients).encode()
    except UnicodeEncodeError:
        raise AskingFailed("the client id is no valid text", lasting=True) from None
