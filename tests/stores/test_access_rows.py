"""Users, tokens, sessions and the audit log come back as they were written, from every store."""

from __future__ import annotations

from dataclasses import replace

from engine.stores.access_tables import SESSIONS_OF_ONE
from engine.stores.base import NewAudit, SessionRow, Store, TokenRow, UserRow

USER = UserRow(name="anna", role="admin", password="$argon2id$x", created_at_ms=1, password_at_ms=2)
TOKEN = TokenRow(name="feed", role="source", hash="ab" * 32, created_at_ms=1, expires_at_ms=None, created_by="anna")
SESSION = SessionRow(
    hash="h0", name="anna", kind="user", role="admin", credential="2", address="192.0.2.1", created_at_ms=10, seen_at_ms=10, expires_at_ms=100
)  # fmt: skip
ENTRY = NewAudit(at_ms=5, who="anna", kind="user", address="192.0.2.1", act="Forget", arguments="{}", before='{"é": 1}')


def test_rows_come_back_as_they_were(store: Store) -> None:
    with store.transaction():
        store.access.write_user(USER)
        store.access.write_user(replace(USER, role="viewer"))
        store.access.write_token(TOKEN)
        store.access.write_session(SESSION)
        store.access.touch_session("h0", 50)
        store.access.touch_session("h0", 20)  # another process was later, and writes earlier
        first = store.access.add_audit(ENTRY)
        second = store.access.add_audit(replace(ENTRY, who="otto", act="Login"))
        store.access.finish_audit(first, '{"done": true}')
    assert store.access.users() == [replace(USER, role="viewer")]
    assert store.access.tokens() == [TOKEN]
    assert store.access.session("h0") == replace(SESSION, seen_at_ms=50)
    assert [(row.id, row.who, row.after) for row in store.access.audit()] == [
        (second, "otto", None),
        (first, "anna", '{"done": true}'),
    ]
    assert [row.id for row in store.access.audit(who="anna", act="Forget")] == [first]
    assert [row.id for row in store.access.audit(before=second, limit=1)] == [first]


def test_who_is_removed_has_no_session_and_what_is_over_is_purged(store: Store) -> None:
    with store.transaction():
        store.access.write_user(USER)
        for number in range(SESSIONS_OF_ONE + 3):
            store.access.write_session(replace(SESSION, hash=f"h{number:03}", created_at_ms=number))
    assert len(store.access.sessions()) == SESSIONS_OF_ONE
    assert store.access.session("h000") is None
    with store.transaction():
        assert store.access.remove_user("anna") and not store.access.remove_user("anna")
    assert store.access.sessions() == []
    with store.transaction():
        store.access.write_session(SESSION)
        store.access.write_session(replace(SESSION, hash="h1", name="otto", expires_at_ms=1_000, seen_at_ms=90))
        store.access.add_audit(ENTRY)
        store.access.add_audit(replace(ENTRY, at_ms=70))
        assert store.access.purge_access(now_ms=100, idle_before_ms=20, audit_before_ms=60) == 2
    assert [row.hash for row in store.access.sessions()] == ["h1"]
    assert [row.at_ms for row in store.access.audit()] == [70]
