"""What a whole store is made of when it moves to another kind of store, and what each kind must offer for that.

Rows travel as they are kept, table by table: whatever a store keeps and this list does not name would be lost, so a test holds the
list against the tables of every store. Read `TABLES`, then `CopySide`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol

Row = tuple[str | int | bytes | None, ...]
"""One row. Truth values are 0 and 1, JSON is its text: the same in every store."""


class CopiedTable(NamedTuple):
    """A table with its columns, in the order in which a row has them. `order`: the columns that it is read by.

    `is_shared`: it belongs to the installation and not to a cell.
    """

    name: str
    columns: tuple[str, ...]
    order: tuple[str, ...]
    is_shared: bool = False


def _table(name: str, *columns: str, order: str = "id", is_shared: bool = False) -> CopiedTable:
    return CopiedTable(name, tuple(" ".join(columns).split()), tuple(order.split()), is_shared)


def column_list(columns: Iterable[str]) -> str:
    """Columns as SQL names them: some are words of the language."""
    return ", ".join(f'"{column}"' for column in columns)


TABLES: Final = (
    _table("meta", "key value", order="key"),
    _table("journal", "id at source count events previous facts"),
    _table("clients", "id last state"),
    _table("forgotten", "client at", order="client"),
    _table(
        "alerts",
        "id rule client source trigger state reason started_at due_at fired_at resolved_at",
        "told",
        "throttle_key detail key life acknowledged_by",
    ),
    _table("throttles", "rule key firings", order="rule key"),
    _table("silences", "id match from_at until_at author comment rules planned"),
    _table("kept", "kind id value", order="kind id"),
    _table("outage_members", "outage client down", order="outage client"),
    _table("rules", "name definition loaded_at missing_since", order="name"),
    _table("rule_versions", "name from_at definition", order="name from_at"),
    _table(
        "deliveries",
        "id key rule client group_key clients alert action target lane phase state retrying attempts may_have_arrived decided_at due_at"
        " last_error request tries renewed_at attempts_before",
    ),
    _table("quarantine", "id received_at source reason raw"),
    _table("sources", "name position caught_up_to last_event_at", order="name"),
    _table("gaps", "id source noted_at from_at to_at reason"),
    _table(
        "reconciliations",
        "id why scope started_at finished_at total asked agreed corrected unknown failed",
    ),
    _table("corrections", "id reconciliation client at believed connections said"),
    _table("users", "name role password created_at password_at", order="name", is_shared=True),
    _table("tokens", "name role hash created_at expires_at created_by", order="name", is_shared=True),
    _table(
        "sessions",
        "hash name kind role credential address created_at seen_at expires_at",
        order="hash",
        is_shared=True,
    ),
    _table("audit", "id at who kind address act arguments before after", is_shared=True),
    _table(
        "fleet_curve",
        "grp span at online offline unknown on_hold peak flaps transitions",
        order="grp span at",
    ),
    _table("verdict_latency", "span at status bucket verdicts", order="span at status bucket"),
    _table("outage_progress", "alert at joined back", order="alert at"),
)
"""Everything that a store keeps."""


class CopySide(Protocol):
    """A whole store, held so that nothing else works on it until `close`."""

    @property
    def place(self) -> str:
        """Where it is, for people; without secrets."""
        ...

    def counts(self) -> Mapping[str, int]:
        """How many rows each table has, by its name. StoreError when it cannot be read."""
        ...

    def rows(self, table: CopiedTable) -> Iterator[Row]:
        """Every row of a table, one after another, however many there are. StoreError when it cannot be read."""
        ...

    def as_held(self, row: Row) -> Row:
        """A row as this kind of store can hold it: the same, but for what no text of it may contain."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """One transaction for the whole copy: durable when the block is left, nothing of it when the block raised. StoreError."""
        ...

    def write(self, table: CopiedTable, rows: Iterable[Row]) -> None:
        """Inside `writing`: add rows. StoreError when that fails."""
        ...

    def close(self) -> None:
        """Let others work on it."""
        ...
