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

Line = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]*\S[^\x00-\x1f\x7f-\x9f]*$")]
"""A name on one line."""

LongLine = Annotated[
    str, Meta(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*\S[^\x00-\x1f\x7f-\x9f]*$")
]
"""A comment on one line."""

Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]

Share = Annotated[float, Meta(ge=0, le=1)]
"""A part of a whole: 0.05 is 5 %."""

Next = Annotated[str | None, Meta(description="The `cursor` of the next page; null: this is the last one.")]
