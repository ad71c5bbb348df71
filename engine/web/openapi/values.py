"""Types of single values in the JSON of the HTTP interface, as its description needs them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Instant = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339, in UTC with milliseconds."""

Duration = Annotated[
    str,
    Meta(
        description="A number with its unit, or several of them (d, h, m, s, ms), in this order; more than 0 and at most ten years.",
        pattern=r"^(?=[0-9])([0-9]{1,9}d)?([0-9]{1,9}h)?([0-9]{1,9}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$",
        extra_json_schema={"format": "rollcall-duration", "examples": ["2h", "1h30m"]},
    ),
]

Line = Annotated[
    str,
    Meta(
        min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    ),
]
"""A name on one line."""

LongLine = Annotated[
    str,
    Meta(
        min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    ),
]
"""A comment on one line."""

Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]

Share = Annotated[float, Meta(ge=0, le=1)]
"""A part of a whole: 0.05 is 5 %."""

Next = Annotated[str | None, Meta(description="The `cursor` of the next page; null: this is the last one.")]

Pattern = Annotated[str, Meta(extra_json_schema={"format": "rollcall-pattern", "examples": ["pump-*"]})]
"""A text, a glob, or `re:` with an RE2 expression."""

Network = Annotated[
    str, Meta(min_length=1, extra_json_schema={"format": "rollcall-network", "examples": ["10.0.0.0/8"]})
]
"""An address, or a network."""

Patterns = Annotated[list[Pattern], Meta(min_length=1)]

RuleName = Annotated[str, Meta(min_length=1, extra_json_schema={"format": "rollcall-pattern", "examples": ["pump-*"]})]
"""The name of a rule, or a pattern of names."""

RuleNames = Annotated[list[RuleName], Meta(min_length=1)]

Beginning = Annotated[
    str,
    Meta(
        description="An instant (RFC 3339), or a duration from now; at most a year ahead. Without it: now.",
        min_length=1,
        extra_json_schema={"format": "rollcall-beginning", "examples": ["2h"]},
    ),
]
