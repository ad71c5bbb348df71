"""A replica in a process of its own that stands still inside its transactions, for tests that pause or kill it there.

`python -m tests.postgres.paused_replica DSN NAME LEASE_S` takes the cell `main` and prints `owner`. For each line of standard input, it makes
one transaction that writes the line as the remembered value `by`: it prints `inside` when everything is written, waits for another
line, commits, and prints `committed` or the class of the error.
"""

from __future__ import annotations

import sys

from engine.errors import StoreError
from engine.stores.postgres.database import Database
from engine.stores.postgres.store import PostgresStore


def main(dsn: str, name: str, lease_s: str) -> None:
    """Do what the lines of standard input say."""
    store = PostgresStore.open(Database(dsn=dsn, replica=name, lease_s=float(lease_s))).own()
    print("owner", flush=True)
    for line in sys.stdin:
        try:
            with store.transaction():
                store.write_meta("by", line.strip())
                print("inside", flush=True)
                sys.stdin.readline()
            print("committed", flush=True)
        except StoreError as error:
            print(type(error).__name__, store.ownership.may_send(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
