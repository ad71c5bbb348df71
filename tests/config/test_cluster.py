"""The sections `store`, `cells` and `cluster`: what is accepted, and what each mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.cell_groups import CellGroups
from engine.config.cluster import CellConfig
from engine.config.loader import Config, load_config
from engine.errors import InvalidFiles
from engine.rulefiles.loader import load_rules


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


CELLS = "store: {type: postgres, dsn: 'host=db'}\ncells: [{name: eu, groups: ['EU_*']}, {name: us, groups: ['US_*', '*']}]\n"


def test_a_replica_may_run_every_cell_unless_it_names_some(tmp_path: Path) -> None:
    assert "there is no cell `uk`" in refusal(tmp_path, f"{CELLS}cluster: {{cells: [us, uk]}}")
    assert [cell.name for cell in loaded(tmp_path, CELLS).own_cells] == ["eu", "us"]
    config = loaded(tmp_path, f"{CELLS}cluster: {{cells: [us]}}")
    assert [cell.name for cell in config.own_cells] == ["us"] and config.cell.name == "us"
    groups = CellGroups(config.cells)
    assert [groups.of(client) for client in ("EU_1@@@d", "US_1@@@d", "elsewhere@@@d", "d")] == ["eu", "us", "us", "us"]


def test_a_source_that_only_one_can_read_is_refused_with_several_cells(tmp_path: Path) -> None:
    source = "sources: [{name: a, type: amqp, endpoint: e, instance: i, access_key: {env: HOME}, secret: {env: HOME}, consumer_group: g}]"
    assert "cannot be shared by several cells" in refusal(tmp_path, f"{CELLS}{source}")


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("trigger: outage, outage: {by: [site]}", "write `outage: {by: [group]}`"),
        ("trigger: quorum, quorum: {by: [site], down: 3}", "write `quorum: {by: [group]}`"),
        ("trigger: offline, throttle: {max: 5, per: 1h}", "write `throttle: {by: [group]}`"),
        ("trigger: offline, grouping: {by: [site]}", "write `grouping: {by: [group]}`"),
        ("trigger: schedule, schedule: {cron: '0 8 * * *'}", "with the groups of one cell"),
        ("trigger: offline, throttle: {max: 5, per: 1h}, match: {group: [EU_1, US_1]}", "cells eu, us"),
        ("trigger: offline, throttle: {max: 5, per: 1h}, match: {group: 'EU_*'}", None),
        ("trigger: offline, throttle: {max: 5, per: 1h}, match: {client: 'EU_1@@@*'}", None),
        ("trigger: outage, outage: {by: [group]}", None),
        ("trigger: offline", None),
    ],
)
def test_a_rule_that_spans_cells_is_refused_with_the_key_that_makes_it_fit(
    rule: str, told: str | None, tmp_path: Path
) -> None:
    cells = CELLS.replace(", '*'", "")
    config = loaded(tmp_path, cells)
    (tmp_path / "rules.yaml").write_text(
        f"version: 1\nrules: [{{name: r, {rule}, actions: [{{log: {{message: x}}}}]}}]\n"
    )
    if told is None:
        assert load_rules([tmp_path / "rules.yaml"], config=config).rules
        return
    with pytest.raises(InvalidFiles) as error:
        load_rules([tmp_path / "rules.yaml"], config=config)
    assert told in str(error.value) and "use one cell" in str(error.value)
