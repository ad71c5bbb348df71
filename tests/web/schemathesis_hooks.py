"""What schemathesis cannot read in the OpenAPI document: texts with a grammar of ours, this service's inventory, and the present."""

from __future__ import annotations

import time
from typing import Any

import schemathesis
from hypothesis import strategies as st

words = st.text("abcxyz019-_*?", min_size=1, max_size=12)
durations = st.tuples(st.integers(1, 999).map(str), st.sampled_from(["ms", "s", "m", "h"])).map("".join)
keys = st.sampled_from(["group", "device", "client", "site", "attributes.site"])

schemathesis.openapi.format("rollcall-pattern", words | st.just("re:a+"))
schemathesis.openapi.format("rollcall-network", st.sampled_from(["10.0.0.0/8", "::1", "192.0.2.7"]))
schemathesis.openapi.format("rollcall-matcher", st.tuples(keys, words).map("=".join) | st.just("ip=10.0.0.0/8"))
schemathesis.openapi.format("rollcall-duration", durations)
schemathesis.openapi.format("rollcall-beginning", durations)
schemathesis.openapi.format("password", st.text("abcdefgh", min_size=8, max_size=20).map("0123456789-".__add__))


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """The inventory of the service under test has one column, `site`."""
    match = raw_schema["components"]["schemas"]["SilenceMatch"]
    match["additionalProperties"] = False
    columns = match["properties"]["attributes"]
    columns["properties"] = {"site": columns["additionalProperties"]}
    columns["additionalProperties"] = False


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """Events of the past and the present: a schema cannot say that those of the future are refused."""
    if context.operation.path != "/v1/events":
        return True
    return not any(_lies_outside(event) for event in (body if isinstance(body, list) else [body]))


def _lies_outside(event: Any) -> bool:
    try:
        number = float(event["time"])
    except (TypeError, ValueError, KeyError):
        return False
    at_ms = number * 1000 if number < 1e11 else number
    return not -62_135_596_800_000 <= at_ms <= time.time() * 1000


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """What has not the form of our texts is not known to schemathesis: it takes anything that its strategy does not make for wrong."""
    about = getattr(case.meta.phase.data, "description", None) if case.meta is not None else None
    return "violates `format`" not in (about or "")
