"""Today's query, OnsMqtt OpenAPI 2020-04-20, through the vendor's SDK (the extra `openapi`).

Yes or no for one client, exact, or for ten at once from the service's cache. The SDK is imported when a provider is made. It makes one attempt a call and verifies TLS; it uses a proxy of the
environment, and it follows redirects (a signature never goes to another host). What it raises has lost the answer's
headers, so a `Retry-After` is known only where it came as `x-acs-retry-after`. Read `_translated` first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from engine.config.endpoints import endpoint_of
from engine.errors import RollcallError
from engine.status.base import AskingFailed, must_be_text
from engine.status.http import LONGEST_PAUSE_S, TIMED_OUT, beneath, foreign

NOT_INSTALLED: Final = "the vendor's SDK is not installed: pip install 'rollcall[openapi]'"
BATCH: Final = 10
WINDOW: Final = "15 minutes"
"""How far our clock may be off before the service refuses us."""


class OpenApiProvider:
    """Asks the OpenAPI; see `Provider`. Thread-safe. A client that is online counts as one connection.

    `endpoint`: such as `onsmqtt.cn-hangzhou.aliyuncs.com`. `timeout_s` bounds connecting and each wait for bytes. `ca`:
    certificates to trust besides the public ones. Raises ValueError for an endpoint that cannot be, RollcallError without the SDK.
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
        self._made: tuple[tuple[str, str], Any] | None = None
        self._lock = threading.Lock()
        try:
            from alibabacloud_onsmqtt20200420 import client, models
            from alibabacloud_tea_openapi.models import Config
            from alibabacloud_tea_util.models import RuntimeOptions
        except ImportError as error:
            raise RollcallError(NOT_INSTALLED) from error
        logging.getLogger("darabonba-core").setLevel(logging.WARNING)  # below, it prints signed headers
        self._client_type, self._models, self._config_type = client.Client, models, Config
        self._runtime_type = RuntimeOptions

    def query(self, client: str) -> int | None:
        """One when the client is online, else 0. Raises AskingFailed."""
        must_be_text(client)
        request = self._models.QuerySessionByClientIdRequest(client_id=client, instance_id=self._instance)
        answer = self._asked(lambda sdk, wait: sdk.query_session_by_client_id_with_options(request, wait))
        online = answer.online_status
        if type(online) is not bool:
            raise AskingFailed(f"{self._where} answers something else than yes or no: {foreign(online, [])}")
        return int(online)

    def query_many(self, clients: Sequence[str]) -> Mapping[str, int | None]:
        """The same for up to ten, from the service's cache; clients it does not name are missing. Raises AskingFailed."""
        if not 1 <= len(clients) <= BATCH:
            raise ValueError(f"a batch has 1 to {BATCH} clients, not {len(clients)}")
        must_be_text(*clients)
        request = self._models.BatchQuerySessionByClientIdsRequest(
            client_id_list=list(clients), instance_id=self._instance
        )
        answer = self._asked(lambda sdk, wait: sdk.batch_query_session_by_client_ids_with_options(request, wait))
        wanted = set(clients)
        found: dict[str, int | None] = {
            entry.client_id: int(entry.online_status)
            for entry in answer.online_status_list
            if type(entry.online_status) is bool and isinstance(entry.client_id, str) and entry.client_id in wanted
        }
        if not found:
            raise AskingFailed(f"{self._where} answers about none of the {len(clients)} clients asked about")
        return found

    def close(self) -> None:
        """Forget the keys; the SDK keeps its connections for the whole process."""
        self._made = None

    def _asked(self, ask: Callable[[Any, Any], Any]) -> Any:
        """The body of the SDK's answer."""
        keys = self._access_key(), self._secret()
        wait_ms = max(1, int(self._timeout_s * 1000))
        runtime = self._runtime_type(connect_timeout=wait_ms, read_timeout=wait_ms, autoretry=False)
        sdk = self._sdk(keys)
        # Whatever the SDK trips over in an answer is a failed question, not a fault of ours.
        try:
            body = ask(sdk, runtime).body
        except Exception as error:  # noqa: BLE001  # see above
            raise self._translated(error, keys[1]) from None
        if body is None:
            raise self._no_json()
        return body

    def _no_json(self) -> AskingFailed:
        return AskingFailed(
            f"{self._where} answers with something else than its JSON: a fault of the service, or is `endpoint` wrong?"
        )

    def _sdk(self, keys: tuple[str, str]) -> Any:
        with self._lock:
            if self._made is None or self._made[0] != keys:
                config = self._config_type(
                    access_key_id=keys[0],
                    access_key_secret=keys[1],
                    endpoint=self._endpoint.netloc,
                    protocol=self._endpoint.scheme.upper(),
                    ca=str(self._ca) if self._ca is not None else None,
                )
                self._made = keys, self._client_type(config)
            return self._made[1]

    def _translated(self, error: Exception, secret: str) -> AskingFailed:
        """What a failure means: the service's own words where it said something, else what lies beneath."""
        status, code = getattr(error, "status_code", None), getattr(error, "code", None) or ""
        if type(status) is int:
            return self._refused(status, str(code), foreign(getattr(error, "message", ""), [secret]), error)
        inner = getattr(error, "inner_exception", error)
        beneath_it = inner.__context__
        if type(inner).__name__ != "RetryError" or beneath_it is None:
            return self._no_json()
        told = beneath(beneath_it)
        if told == TIMED_OUT:
            return AskingFailed(f"{self._where} does not answer within {self._timeout_s:g} s", answered=False)
        if type(beneath_it).__name__ == "SSLError":
            return AskingFailed(f"{self._where} has no TLS that can be trusted: {told}", lasting=True)
        return AskingFailed(f"{self._where} cannot be reached, or broke off: {told}", answered=False)

    def _refused(self, status: int, code: str, message: str, error: Exception) -> AskingFailed:
        said = f"{foreign(code, [])}: {message}"
        if status == 429 or code.lower().startswith("throttling"):
            pause_ms = getattr(error, "retry_after", None)
            pause_s = min(pause_ms / 1000, LONGEST_PAUSE_S) if type(pause_ms) is int and pause_ms > 0 else None
            return AskingFailed(f"{self._where} wants fewer calls ({said})", throttled=True, retry_after_s=pause_s)
        if code.startswith("InvalidTimeStamp"):
            return AskingFailed(
                f"{self._where} refuses our time: your clock is off by more than {WINDOW} ({said})", lasting=True
            )
        if code == "SignatureDoesNotMatch":
            return AskingFailed(
                f"{self._where} refuses the signature: `secret` does not belong to `access_key`", lasting=True
            )
        if code.startswith("InvalidAccessKeyId"):
            return AskingFailed(f"{self._where} does not know the access key ({said})", lasting=True)
        if status in (401, 403):
            return AskingFailed(
                f"{self._where} grants no permission for instance {self._instance} ({said}): look at the rights of the access key",
                lasting=True,
            )
        lasting = 400 <= status < 500 and status != 408 and code != "SignatureNonceUsed"
        return AskingFailed(f"{self._where} answers with HTTP status {status} ({said})", lasting=lasting)
