"""The interface of every provider of the synchronous status query. Read `Provider` first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from engine.errors import RollcallError


class QueryFailed(RollcallError):
    """A query got no usable answer. The message is a sentence for people and holds no secret.

    `throttled`: the service asked for fewer calls, for `retry_after_s` seconds where it said so. `lasting`: further queries fail
    alike until somebody mends something (wrong credentials, a clock that is off, no permission). `answered`: the service replied;
    False after a timeout or a broken connection, when the call may still be on its way (see `Budget.done`).
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
    """Queries the status of clients, synchronously, from several threads at once. Each method makes one call to the service."""

    batch_size: int
    """How many clients `query_many` takes at once; 1: the service has no batches."""

    def query(self, client: str) -> int | None:
        """The client's number of connections, exact; None: the service does not know. Raises QueryFailed."""
        ...

    def query_many(self, clients: Sequence[str]) -> Mapping[str, int | None]:
        """The same for several, from a cache that may be behind; clients may be missing. Raises QueryFailed."""
        ...

    def close(self) -> None:
        """Close connections."""
        ...


def require_encodable(*clients: str) -> None:
    """Raise QueryFailed for an id that no request can hold: half of a surrogate pair, as a broken command line gives."""
    try:
        "".join(clients).encode()
    except UnicodeEncodeError:
        raise QueryFailed("the client id is not valid Unicode text", lasting=True) from None
