"""Today's query, OnsMqtt OpenAPI 2020-04-20, through the vendor's SDK (the extra `openapi`).

It answers online or offline: for one client, exact, or for ten at once from the service's cache. The SDK is imported when a
provider is made. It makes one attempt a call and verifies TLS; it uses a proxy of the environment, and it follows redirects (a
signature never goes to another host). Its errors do not hold the response's headers, so a `Retry-After` is known only when it
came as `x-acs-retry-after`. Read `OpenApiProvider._translate` first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from engine.config.endpoints import endpoint_of
from engine.core.retry_after import LONGEST_RETRY_AFTER_S
from engine.errors import RollcallError
from engine.status.base import QueryFailed, require_encodable
from engine.status.bounded import attempt, bound
from engine.status.http import TIMED_OUT, root_cause, safe_message
from engine.status.library_logs import hide_signed_headers

NOT_INSTALLED: Final = "the vendor's SDK is not installed: pip install 'rollcall-presence[openapi]'"
BATCH: Final = 10
CLOCK_TOLERANCE: Final = "15 minutes"
"""The service refuses timestamps that differ by more from its own clock."""


def _bound_connections() -> None:
    """Have the SDK use bounded connections: it makes its own, without a way to choose them. Outside an attempt they limit nothing."""
    from darabonba.core import DaraCore

    made = DaraCore.get_adapter
    if getattr(made, "is_bounded", False):
        return

    def get_adapter(*arguments: Any, **more: Any) -> Any:
        return bound(made(*arguments, **more))

    get_adapter.is_bounded = True  # type: ignore[attr-defined]
    DaraCore.get_adapter = staticmethod(get_adapter)


class OpenApiProvider:
    """Queries the OpenAPI; see `Provider`. Thread-safe. A client that is online counts as one connection.

    `endpoint`: such as `onsmqtt.cn-hangzhou.aliyuncs.com`. `timeout_s` limits the whole of a call. `ca`:
    certificates to trust besides the public ones. Raises ValueError for an invalid endpoint, RollcallError without the SDK.
    """

    batch_size = BATCH

    def __init__(
        self,
        endpoint: str,
        instance: str,
        access_key: Callable[[], str],
        secret: Callable[[], str],
        timeout_s: float = 5.0,
        *,
        ca: Path | None = None,
    ) -> None:
        self._endpoint = endpoint_of(endpoint)
        self._where = f"the OpenAPI at {self._endpoint}"
        self._instance = instance
        self._access_key = access_key
        self._secret = secret
        self._timeout_s = timeout_s
        self._ca = ca
        self._sdk_of: tuple[tuple[str, str], Any] | None = None  # the keys, and the SDK's client made with them
        self._lock = threading.Lock()
        try:
            from alibabacloud_onsmqtt20200420 import client, models
            from alibabacloud_tea_openapi.models import Config
            from alibabacloud_tea_util.models import RuntimeOptions
        except ImportError as error:
            raise RollcallError(NOT_INSTALLED) from error
        hide_signed_headers()
        _bound_connections()
        self._client_type, self._models, self._config_type = client.Client, models, Config
        self._runtime_type = RuntimeOptions

    def query(self, client: str) -> int | None:
        """1 when the client is online, else 0. Raises QueryFailed."""
        require_encodable(client)
        request = self._models.QuerySessionByClientIdRequest(client_id=client, instance_id=self._instance)
        answer = self._call(lambda sdk, runtime: sdk.query_session_by_client_id_with_options(request, runtime))
        online = answer.online_status
        if type(online) is not bool:
            shown = safe_message(online, [])
            raise QueryFailed(f"{self._where} answered with something other than yes or no: {shown}")
        return int(online)

    def query_many(self, clients: Sequence[str]) -> Mapping[str, int | None]:
        """The same for up to ten, from the service's cache; clients that it does not name are missing. Raises QueryFailed."""
        if not 1 <= len(clients) <= BATCH:
            raise ValueError(f"a batch has 1 to {BATCH} clients, not {len(clients)}")
        require_encodable(*clients)
        request = self._models.BatchQuerySessionByClientIdsRequest(
            client_id_list=list(clients), instance_id=self._instance
        )
        answer = self._call(lambda sdk, runtime: sdk.batch_query_session_by_client_ids_with_options(request, runtime))
        wanted = set(clients)
        found: dict[str, int | None] = {
            entry.client_id: int(entry.online_status)
            for entry in answer.online_status_list
            if type(entry.online_status) is bool and isinstance(entry.client_id, str) and entry.client_id in wanted
        }
        if not found:
            raise QueryFailed(f"{self._where} returned no result for any of the {len(clients)} clients of a batch")
        return found

    def close(self) -> None:
        """Forget the keys; the SDK keeps its connections for the whole process."""
        self._sdk_of = None

    def _call(self, call: Callable[[Any, Any], Any]) -> Any:
        """The body of the SDK's response. `call` is given the SDK's client and the options of this call."""
        keys = self._access_key(), self._secret()
        timeout_ms = max(1, int(self._timeout_s * 1000))
        runtime = self._runtime_type(connect_timeout=timeout_ms, read_timeout=timeout_ms, autoretry=False)
        sdk = self._sdk(keys)
        # Whatever the SDK raises while it reads a response is a failed query, not an internal error.
        try:
            with attempt(self._timeout_s):
                body = call(sdk, runtime).body
        except Exception as error:  # noqa: BLE001  # see above
            raise self._translate(error, keys[1]) from None
        if body is None:
            raise self._no_json()
        return body

    def _sdk(self, keys: tuple[str, str]) -> Any:
        with self._lock:
            if self._sdk_of is None or self._sdk_of[0] != keys:
                config = self._config_type(
                    access_key_id=keys[0],
                    access_key_secret=keys[1],
                    endpoint=self._endpoint.netloc,
                    protocol=self._endpoint.scheme.upper(),
                    ca=str(self._ca) if self._ca is not None else None,
                )
                self._sdk_of = keys, self._client_type(config)
            return self._sdk_of[1]

    def _no_json(self) -> QueryFailed:
        return QueryFailed(f"{self._where} answered with something other than JSON: check `endpoint`")

    def _translate(self, error: Exception, secret: str) -> QueryFailed:
        """An error of the SDK, in the service's own words where it sent any, else by what lies beneath it."""
        status, code = getattr(error, "status_code", None), getattr(error, "code", None) or ""
        if type(status) is int:
            return self._refusal(status, str(code), safe_message(getattr(error, "message", ""), [secret]), error)
        inner = getattr(error, "inner_exception", error)
        beneath = inner.__context__
        if type(inner).__name__ != "RetryError" or beneath is None:
            return self._no_json()
        cause = root_cause(beneath)
        if cause == TIMED_OUT:
            return QueryFailed(f"{self._where} did not answer within {self._timeout_s:g} s", answered=False)
        if type(beneath).__name__ == "SSLError":
            return QueryFailed(f"{self._where} has a TLS certificate that is not trusted: {cause}", lasting=True)
        return QueryFailed(f"{self._where} cannot be reached, or closed the connection: {cause}", answered=False)

    def _refusal(self, status: int, code: str, message: str, error: Exception) -> QueryFailed:
        """What the service's error codes mean."""
        said = f"{safe_message(code, [])}: {message}"
        if status == 429 or code.lower().startswith("throttling"):
            pause_ms = getattr(error, "retry_after", None)
            pause_s = min(pause_ms / 1000, LONGEST_RETRY_AFTER_S) if type(pause_ms) is int and pause_ms > 0 else None
            return QueryFailed(
                f"{self._where} limited the rate of calls ({said})", throttled=True, retry_after_s=pause_s
            )
        if code.startswith("InvalidTimeStamp"):
            return QueryFailed(
                f"{self._where} refused the timestamp: this machine's clock is off by more than {CLOCK_TOLERANCE} ({said})",
                lasting=True,
            )
        if code == "SignatureDoesNotMatch":
            return QueryFailed(
                f"{self._where} refused the signature: `secret` does not belong to `access_key`", lasting=True
            )
        if code.startswith("InvalidAccessKeyId"):
            return QueryFailed(f"{self._where} does not know the access key ({said})", lasting=True)
        if status in (401, 403):
            return QueryFailed(
                f"{self._where} denied access to instance {self._instance} ({said}): check the permissions of the access key",
                lasting=True,
            )
        lasting = 400 <= status < 500 and status != 408 and code != "SignatureNonceUsed"
        return QueryFailed(f"{self._where} answered with HTTP status {status} ({said})", lasting=lasting)
