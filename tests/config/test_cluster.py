"""The sections `store`, `cells` and `cluster`: what is accepted, and what each mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.cluster import CellConfig
from engine.config.loader import Config, load_config
from engine.errors import InvalidFiles


def loaded(folder: Path, text: str) -> Config:
    path = folder / "config.yaml"
    path.write_text(f"version: 1\n{text}\n")
    return load_config(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(InvalidFiles) as error:
        loaded(folder, text)
    return str(error.value)


def test_without_a_word_the_store_is_a_file_and_one_cell_holds_all(tmp_path: Path) -> None:
    config = loaded(tmp_path, "")
    assert (config.store.type, config.store.dsn, config.cells) == ("sqlite", None, (CellConfig(),))
    assert config.cluster.name and config.cluster.lease_ms == 5_000


def test_a_shared_store_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "s3cret")
    config = loaded(
        tmp_path,
        "store: {type: postgres, dsn: 'postgresql://rollcall@db/rollcall', password: {env: DB_PASSWORD}}\n"
        "cells: [{name: eu, groups: ['*']}]\ncluster: {name: node-a, lease: 2s}",
    )
    assert config.store.dsn is not None and config.store.dsn.reveal() == "postgresql://rollcall@db/rollcall"
    assert config.store.password is not None and config.store.password.reveal() == "s3cret"
    assert "s3cret" not in repr(config)
    assert (config.cells[0].name, config.cluster.name, config.cluster.lease_ms) == ("eu", "node-a", 2_000)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("store: {type: postgresql}", "write postgres"),
        ("store: {type: postgres}", "`dsn` is missing"),
        ("store: {dsn: 'postgresql://db/x'}", "belongs to `type: postgres`"),
        ("store: {type: postgres, dsn: 'postgresql://u:hunter2@db/x'}", "holds a password"),
        ("store: {type: postgres, dsn: 'host=db password=hunter2'}", "holds a password"),
        ("store: {type: postgres, dsn: 'mysql://db/x'}", "must begin with postgresql://"),
        ("store: {type: postgres, dsn: db.example}", "must be a URL such as"),
        ("store: {type: postgres, dsn: 'host=db', password: hunter2}", "{env: NAME} or {file: PATH}"),
        ("cells: [{name: eu, groups: ['*']}]", "needs `store: {type: postgres}`"),
        ("cluster: {lease: 100ms}", "must be between 1s and 60s"),
        ("cluster: {lease: 2h}", "must be between 1s and 60s"),
        ("cluster: {name: 'two words'}", "must be a name of letters"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_no_secret(tmp_path: Path, text: str, told: str) -> None:
    message = refusal(tmp_path, text)
    assert told in message and "config.yaml:2:" in message
    assert "hunter2" not in message


def test_more_than_one_cell_is_refused_with_the_way_out(tmp_path: Path) -> None:
    text = (
        "store: {type: postgres, dsn: 'host=db'}\ncells: [{name: eu, groups: ['EU_*']}, {name: us, groups: ['US_*']}]"
    )
    assert "one cell holds every group" in refusal(tmp_path, text)
