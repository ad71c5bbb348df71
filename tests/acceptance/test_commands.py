"""The commands as people and scripts use them: as processes, beside a running service and without one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.service import ROLLCALL, Answer, Service, event, eventually, now_ms, offline_rule, service, sink
from tests.command_line import command as in_process

ESC = "\x1b"
LISTS = ("clients", "sources", "alerts list", "deliveries list", "quarantine list")


def rollcall(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """One command in a folder, to its end; in a process of its own if it needs one."""
    if arguments[:1] != ("run",) and not options.keys() - {"input"}:
        return in_process(folder, *arguments, **options)
    settings: dict[str, Any] = {"cwd": folder, "capture_output": True, "text": True, "timeout": 60}
    return subprocess.run([ROLLCALL, *arguments], check=False, **(settings | options))


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What a command printed with `--format jsonl`."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with clients, alerts, dead deliveries and a quarantine."""
    with sink() as target, service(tmp_path_factory.mktemp("commands")) as found:
        target.answer = lambda arrival: Answer(status=400)
        found.rules(offline_rule(target.url, match={"device": "d*"}))
        found.start()
        found.tell(*(event(f"G@@@d{n}", "connect", f"c{n}", now_ms() - 5_000) for n in range(6)))
        found.tell(*(event(f"G@@@d{n}", "tcpclean", f"c{n}") for n in range(4)))
        found.post("{broken" + ESC + "[31m")
        eventually(lambda: found.items("/v1/deliveries", state="dead"), lambda dead: len(dead) == 4)
        yield found


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """What a service left behind that was stopped."""
    with service(tmp_path_factory.mktemp("left")) as found:
        found.rules({"name": "gone", "trigger": "offline", "actions": [{"log": {"message": "{{ client.id }}"}}]})
        found.start()
        found.tell(*(event(f"G@@@d{n}", "connect", f"c{n}", now_ms() - 5_000) for n in range(6)))
        found.tell(*(event(f"G@@@d{n}", "tcpclean", f"c{n}") for n in range(4)))
        found.post("{broken")
        eventually(lambda: found.items("/v1/deliveries", state="delivered"), lambda sent: len(sent) == 4)
        assert found.terminate() == 0
        yield found


# What is printed


@pytest.mark.parametrize("command", LISTS)
def test_jsonl_prints_the_objects_of_the_http_interface(running: Service, command: str) -> None:
    path = f"/v1/{command.split()[0]}"
    told = lines(running.command(*command.split(), "--format", "jsonl"))
    if command == "sources":
        assert [set(entry) for entry in told] == [set(entry) for entry in running.items(path)]  # the rest moves
    else:
        assert told == running.items(path)
    assert told


@pytest.mark.parametrize("command", LISTS)
def test_the_store_is_asked_when_no_service_runs_and_says_the_same(left: Service, command: str) -> None:
    told = lines(rollcall(left.folder, *command.split(), "--format", "jsonl"))
    assert told
    if command == "clients":
        assert [entry["status"] for entry in told[:5]] == ["offline"] * 4 + ["online"]
    if command == "sources":
        assert (told[0]["connected"], told[0]["detail"]) == (False, "no service is running")


@pytest.mark.parametrize("command", LISTS)
def test_tables_have_a_heading_and_a_line_an_entry(running: Service, command: str) -> None:
    heading, *rows = running.command(*command.split()).stdout.splitlines()
    assert "  " in heading
    assert len(rows) == len(lines(running.command(*command.split(), "--format", "jsonl")))


def test_lists_are_filtered_and_limited(running: Service) -> None:
    def named(*arguments: str) -> list[str]:
        return [entry["client"] for entry in lines(running.command(*arguments, "--format", "jsonl"))]

    assert named("clients", "--status", "online") == ["G@@@d4", "G@@@d5"]
    assert named("clients", "--match", "device=d[12]", "--match", "group=G") == ["G@@@d1", "G@@@d2"]
    assert named("clients", "--limit", "2") == ["G@@@d0", "G@@@d1"]
    assert named("alerts", "list", "--client", "G@@@d3", "--state", "firing", "--rule", "gone") == ["G@@@d3"]
    assert len(named("alerts", "list", "--limit", "3")) == 3
    assert named("deliveries", "list", "--client", "G@@@d2") == ["G@@@d2"]
    assert named("deliveries", "list", "--state", "held") == []


def test_a_number_that_no_delivery_can_have_is_a_delivery_that_is_not_there(left: Service) -> None:
    shown = rollcall(left.folder, "deliveries", "show", "9" * 30)
    assert (shown.returncode, shown.stderr) == (1, f"there is no delivery {'9' * 30}\n")


def test_what_devices_wrote_does_not_steer_the_terminal(running: Service) -> None:
    shown = running.command("quarantine", "list").stdout
    assert ESC not in shown
    assert "broken" in shown
    assert ESC not in running.command("explain", f"{ESC}[31mred").stderr


def test_a_reader_that_has_seen_enough_ends_the_command_quietly(left: Service) -> None:
    for command in ("clients", "clients --format jsonl", "deliveries list"):
        done = subprocess.run(
            f"'{ROLLCALL}' {command} | head -n 1; echo ${{PIPESTATUS[0]}}",
            shell=True, executable="/bin/bash", cwd=left.folder, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        assert done.stdout.splitlines()[-1] == "0"


def test_ctrl_c_ends_a_command_quietly(tmp_path: Path) -> None:
    with service(tmp_path) as found:
        found.rules()
        os.mkfifo(tmp_path / "events")
        process = subprocess.Popen(
            [ROLLCALL, "replay", "events"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with (tmp_path / "events").open("w") as events:  # returns when the command reads from it
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            events.close()
        assert (process.returncode, out, err) == (130, "", "")


def test_help_and_version_say_what_there_is(tmp_path: Path) -> None:
    assert rollcall(tmp_path, "--version").stdout.startswith("rollcall, version ")
    told = rollcall(tmp_path, "--help").stdout
    for command in (
        "init",
        "run",
        "check",
        "replay",
        "explain",
        "clients",
        "sources",
        "deliveries",
        "alerts",
        "quarantine",
    ):
        assert f"  {command} " in told
        assert rollcall(tmp_path, command, "--help").returncode == 0


# Explaining


def test_an_explanation_tells_the_verdict_and_its_grounds(running: Service, left: Service) -> None:
    for house in (running, left):
        told = rollcall(house.folder, "explain", "G@@@d1").stdout
        assert told.startswith("G@@@d1: offline since ")
        assert "used: the channel was closed later" in told
        assert "used: closes its channel" in told


def test_an_explanation_goes_back_to_any_instant(running: Service, left: Service) -> None:
    for house in (running, left):
        (now,) = lines(rollcall(house.folder, "explain", "G@@@d1", "--format", "jsonl"))
        connected = now["evidence"][0]["received_at"]
        (then,) = lines(rollcall(house.folder, "explain", "G@@@d1", "--at", connected, "--format", "jsonl"))
        assert (now["status"], then["status"], then["at"]) == ("offline", "online", connected)
        assert "online at " in rollcall(house.folder, "explain", "G@@@d1", "--at", connected).stdout
        before = rollcall(house.folder, "explain", "G@@@d1", "--at", "2001-01-01T00:00:00Z")
        assert (before.returncode, before.stdout) == (1, "")
        assert "no event had named 'G@@@d1' by 2001-01-01T00:00:00.000Z" in before.stderr
        assert rollcall(house.folder, "explain", "G@@@d1", "--at", "1000").returncode == 1


def test_an_explanation_says_when_older_history_was_purged(tmp_path: Path) -> None:
    with service(tmp_path, history={"keep": "1s"}) as found:
        found.rules()
        found.start(ROLLCALL_CHECKPOINT="1:1000")
        found.tell(event("G@@@a", "connect", "c", now_ms() - 5_000))
        eventually(lambda: found.metric("rollcall_checkpoints"))
        (told,) = lines(found.command("explain", "G@@@a", "--format", "jsonl"))
        old = told["evidence"][0]["received_at"]
        assert told["complete"]
        found.terminate()

        def purged() -> bool:
            found.start(ROLLCALL_CHECKPOINT="1:1000")
            if not found.items("/v1/clients/G@@@a/timeline"):
                return True
            found.terminate()  # a purge is made at the start
            return False

        eventually(purged)
        found.tell(event("G@@@a", "disconnect", "c"))
        (told,) = lines(found.command("explain", "G@@@a", "--format", "jsonl"))
        assert (told["status"], told["complete"]) == ("online", False)
        kept = [(entry["type"], entry["received_at"] is not None) for entry in told["evidence"]]
        assert kept == [("connect", False), ("disconnect", True)]
        assert "older history has expired" in found.command("explain", "G@@@a").stdout
        then = found.command("explain", "G@@@a", "--at", old)
        assert then.returncode == 1
        assert "has expired" in then.stderr
        assert found.get("/v1/clients/G@@@a/timeline")["purged"] is True


# Acts


def test_deliveries_are_shown_retried_and_discarded_through_the_service(running: Service) -> None:
    number = str(running.items("/v1/deliveries", state="dead")[0]["id"])
    shown = running.command("deliveries", "show", number)
    assert '"method": "POST"' in shown.stdout
    retried = running.command("deliveries", "retry", number)
    assert (retried.returncode, retried.stdout) == (0, f"delivery {number} is due\n")
    eventually(lambda: running.get(f"/v1/deliveries/{number}")["state"], lambda state: state == "dead")
    assert running.command("deliveries", "discard", number).stdout == f"delivery {number} is discarded\n"
    refused = running.command("deliveries", "retry", number)
    assert refused.returncode == 1
    assert refused.stderr == f"delivery {number} is discarded; only a dead delivery can be retried\n"


def test_deliveries_are_discarded_in_the_store_when_no_service_runs(left: Service) -> None:
    refused = rollcall(left.folder, "deliveries", "discard", "1", "999")
    assert refused.returncode == 1
    assert "delivery 1 is delivered" in refused.stderr
    assert "there is no delivery 999" in refused.stderr


def test_a_client_is_forgotten_with_and_without_a_service(running: Service, left: Service) -> None:
    running.tell(event("G@@@x/1", "connect", "c"))
    assert running.command("clients", "forget", "G@@@x/1").returncode == 0
    for house, client in ((running, "G@@@x/1"), (left, "G@@@d5")):
        if house is left:
            assert rollcall(house.folder, "clients", "forget", client).returncode == 0
        again = rollcall(house.folder, "clients", "forget", client)
        assert again.returncode == 1
        assert again.stderr.startswith(f"there is no client {client!r}: no event has ever named it")
        assert client not in [
            entry["client"] for entry in lines(rollcall(house.folder, "clients", "--format", "jsonl"))
        ]


def test_the_quarantine_is_retried_with_and_without_a_service(tmp_path: Path) -> None:
    with service(tmp_path, events={"max_future": "1s"}) as found:
        found.rules({"name": "seen", "trigger": "first_seen", "actions": [{"log": {"message": "x"}}]})
        found.start()
        early = [event(f"G@@@early{n}", "connect", "c", now_ms() + 600_000) for n in range(2)]
        assert found.post("{broken", *early).json()["accepted"] == 0
        assert (done := found.command("quarantine", "retry")).returncode == 1
        assert done.stdout == "0 accepted, 3 rejected again\n"
        found.terminate()
        config = json.loads((tmp_path / "config.yaml").read_text())
        config["events"]["max_future"] = "1h"  # the clock of the broker turned out to be right
        (tmp_path / "config.yaml").write_text(json.dumps(config))
        assert rollcall(tmp_path, "quarantine", "retry").stdout == "2 accepted, 1 rejected again\n"
        assert [entry["status"] for entry in lines(rollcall(tmp_path, "clients", "--format", "jsonl"))] == [
            "online"
        ] * 2
        assert len(lines(rollcall(tmp_path, "quarantine", "list", "--format", "jsonl"))) == 1
        assert [sent["state"] for sent in lines(rollcall(tmp_path, "deliveries", "list", "--format", "jsonl"))] == [
            "due"
        ] * 2
        found.start()
        eventually(lambda: found.items("/v1/deliveries", state="delivered"), lambda sent: len(sent) == 2)
        assert found.command("quarantine", "retry", "--format", "jsonl").stdout == '{"accepted":0,"rejected":1}\n'


# Whom a command asks


def test_a_service_on_other_data_is_not_asked(running: Service, left: Service) -> None:
    config = json.loads((left.folder / "config.yaml").read_text())
    config["http"]["listen"] = f"127.0.0.1:{running.port}"  # the default port of two projects, say
    (left.folder / "other.yaml").write_text(json.dumps(config))
    told = lines(rollcall(left.folder, "quarantine", "list", "-c", "other.yaml", "--format", "jsonl"))
    assert [entry["raw"] for entry in told] == ["{broken"]


def test_a_proxy_in_the_environment_is_not_asked(running: Service) -> None:
    environment = os.environ | {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "no_proxy": ""}
    done = rollcall(running.folder, "deliveries", "retry", "999999", env=environment)
    assert done.stderr == "there is no delivery 999999\n"


def test_a_store_in_use_by_a_service_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with service(tmp_path) as found:
        found.rules()
        process = found.start()
        config = json.loads((tmp_path / "config.yaml").read_text())
        others = [
            {"name": "log", "type": "file", "path": "events.jsonl"}
        ]  # without HTTP there is no source of type http
        (tmp_path / "mute.yaml").write_text(json.dumps(config | {"http": None, "sources": others}))
        done = rollcall(tmp_path, "deliveries", "retry", "1", "-c", "mute.yaml")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"in use by another Rollcall process ({process.pid}), which does not answer" in done.stderr
        assert rollcall(tmp_path, "clients", "-c", "mute.yaml").returncode == 0  # reading goes beside it


def test_something_else_that_listens_there_is_left_alone(left: Service) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, *_: Any) -> None:
            pass

    other = HTTPServer(("127.0.0.1", 0), Other)
    threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
    try:
        config = json.loads((left.folder / "config.yaml").read_text())
        config["http"]["listen"] = f"127.0.0.1:{other.server_port}"
        (left.folder / "busy.yaml").write_text(json.dumps(config))
        assert rollcall(left.folder, "clients", "-c", "busy.yaml").returncode == 0
        run = rollcall(left.folder, "run", "-c", "busy.yaml")
        assert run.returncode == 1
        assert run.stderr.splitlines()[-1] == f"cannot listen on 127.0.0.1:{other.server_port}: Address already in use"
        assert "Traceback" not in run.stderr
    finally:
        other.shutdown()
        other.server_close()


@contextlib.contextmanager
def an_impostor(port: int) -> Iterator[list[str | None]]:
    """A program that has taken the port of a service and says that it is one; the bearer tokens that it was given."""
    given: list[str | None] = []

    class Impostor(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given.append(self.headers["Authorization"])
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"status": "alive", "process": 1, "proof": "0" * 64, "items": []}).encode())

        do_POST = do_DELETE = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    other = HTTPServer(("127.0.0.1", port), Impostor)
    thread = threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield given
    finally:
        other.shutdown()
        other.server_close()
        thread.join()


@pytest.mark.parametrize("is_locked", [False, True], ids=["no service runs", "a service runs elsewhere"])
def test_a_program_that_took_the_port_gets_no_token_and_is_not_believed(tmp_path: Path, is_locked: bool) -> None:
    with service(tmp_path, http={"listen": "127.0.0.1:0", "token": {"env": "TOKEN"}}) as found:
        found.rules()
        found.start(ready=False, TOKEN="secret-secret-secret")
        eventually(lambda: (tmp_path / "data" / "rollcall.sqlite3").exists())
        if not is_locked:
            found.kill()
        config = json.loads((tmp_path / "config.yaml").read_text())
        config["http"]["listen"] = f"127.0.0.1:{found.port}"
        (tmp_path / "other.yaml").write_text(json.dumps(config))
        with an_impostor(found.port) as given:
            done = rollcall(
                tmp_path, "silence", "add", "--everything", "--for", "1h", "--author", "a", "--comment", "c",
                "-c", "other.yaml", env=os.environ | {"TOKEN": "secret-secret-secret"},
            )  # fmt: skip
        assert [token for token in given if token is not None] == []
        if is_locked:
            assert "in use by another Rollcall process" in done.stderr
        else:
            assert done.returncode == 0, done.stderr  # in the store itself


# The data folder


def test_what_the_service_writes_is_for_its_user_alone(tmp_path: Path) -> None:
    with service(tmp_path) as found:
        found.rules()
        found.start()
        found.tell(event("G@@@d", "connect", "c"))
        files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        assert {path.name for path in files} >= {"rollcall.lock", "rollcall.sqlite3", "rollcall.sqlite3-wal"}
        assert [(path.name, oct(path.stat().st_mode & 0o777)) for path in files if path.stat().st_mode & 0o077] == []
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_lock_that_is_no_regular_file_is_refused_and_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    lock = tmp_path / "data" / "rollcall.lock"
    lock.parent.mkdir()
    if kind == "link":
        lock.symlink_to(precious)
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.mkdir()
    with service(tmp_path) as found:
        found.rules()
        done = rollcall(tmp_path, "run")
        assert done.returncode == 1
        assert "rollcall.lock" in done.stderr or "Is a directory" in done.stderr
        assert "Traceback" not in done.stderr
    assert precious.read_text() == "precious"


# Locales

LATIN = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_locale_ends_a_command_and_json_is_the_same_in_each(tmp_path: Path, encoding: str) -> None:
    name = "G@@@ü泵\U0001f600\u2066\u200bend"
    with service(tmp_path) as found:
        found.rules({"name": "seen", "trigger": "first_seen", "actions": [{"log": {"message": "{{ client.id }}"}}]})
        locale = LATIN | {"PYTHONIOENCODING": encoding}
        found.start(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING=encoding)
        found.tell(event(name, "connect", "c"))
        eventually(lambda: found.items("/v1/deliveries", state="delivered"), lambda sent: len(sent) == 1)
        table = subprocess.run(
            [ROLLCALL, "clients"], cwd=tmp_path, env=os.environ | locale, capture_output=True, check=True
        ).stdout.decode(encoding.replace("ascii", "utf-8"))  # click writes UTF-8 where the locale says ASCII
        assert "\\u2066\\u200bend" in table and "\u2066" not in table
        printed = subprocess.run(
            [ROLLCALL, "clients", "--format", "jsonl"],
            cwd=tmp_path,
            env=os.environ | locale,
            capture_output=True,
            check=True,
        ).stdout
        assert json.loads(printed)["client"] == name
        assert not {"\u2066", "\u200b"} & set(printed.decode(encoding))
        assert found.terminate() == 0


# Wrong use


def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(tmp_path: Path) -> None:
    for words, meant in ((("chekc",), "check"), (("silence", "lst"), "list"), (("why-nto", "r", "c"), "why-not")):
        done = rollcall(tmp_path, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"Did you mean '{meant}'?" in done.stderr


def test_wrong_use_shows_an_argument_that_holds_what_cannot_be_seen_as_an_escape(tmp_path: Path) -> None:
    for words in (("che\u202eck",), ("--o\u2066dd",), ("silence", "n\u200bo"), ("clients", "--status", "\ufe0f")):
        done = rollcall(tmp_path, *words)
        assert done.returncode == 2
        assert not {"\u202e", "\u2066", "\u200b", "\ufe0f"} & set(done.stderr)
        assert "\\u" in done.stderr


def test_h_is_help_in_every_command(tmp_path: Path) -> None:
    for words in ((), ("check",), ("silence", "add")):
        done = rollcall(tmp_path, *words, "-h")
        assert done.returncode == 0
        assert done.stdout == rollcall(tmp_path, *words, "--help").stdout


@pytest.mark.parametrize(
    "words",
    [
        ("explain", "GID@@@\udcff"),
        ("why-not", "rule", "\udcff"),
        ("alerts", "ack", "rule", "\udcff"),
        ("clients", "forget", "\udcff"),
        ("silence", "expire", "\udcff"),
        ("deliveries", "list", "--client", "\udcff"),
    ],
)
def test_an_argument_that_is_no_utf_8_is_wrong_use_with_and_without_a_service(
    running: Service, left: Service, words: tuple[str, ...]
) -> None:
    for place in (running.folder, left.folder):
        done = rollcall(place, *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "is not valid UTF-8" in done.stderr and "\\udcff" in done.stderr


def test_a_file_may_have_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    assert rollcall(tmp_path, "simulate", "--events", "3", "--to", "\udcff.jsonl").returncode == 0
    assert len((tmp_path / "\udcff.jsonl").read_bytes().splitlines()) == 3


def test_a_limit_beyond_any_number_of_items_is_wrong_use(left: Service) -> None:
    done = rollcall(left.folder, "deliveries", "list", "--limit", "9" * 30)
    assert done.returncode == 2 and "is not in the range" in done.stderr


@pytest.mark.parametrize(
    ("words", "at", "suggested"), [("rollcall sil", 1, "silence"), ("rollcall silence ", 2, "expire")]
)
def test_a_shell_completes_commands(tmp_path: Path, words: str, at: int, suggested: str) -> None:
    asked = {"_ROLLCALL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
    assert f"plain,{suggested}" in rollcall(tmp_path, env=os.environ | asked).stdout.splitlines()


def test_an_unknown_client_is_answered_with_the_id_that_was_meant(running: Service, left: Service) -> None:
    for found in (running, left):
        for words in (("explain", "G@@@dd1"), ("clients", "forget", "G@@@dd1"), ("why-not", "gone", "G@@@dd1")):
            done = rollcall(found.folder, *words)
            if words[0] != "why-not" or found is left:
                assert "did you mean G@@@d" in done.stdout + done.stderr, (words, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "command",
    ["clients --status asleep", "clients --match nonsense", "explain", "explain x --at soon", "explain x --at 2026-01-01T00:00:00",
     "deliveries show x", "deliveries retry", "alerts list --limit 0", "nonsense", "clients --format xml", "replay nowhere.jsonl"],
)  # fmt: skip
def test_wrong_use_exits_with_2_and_a_sentence(left: Service, command: str) -> None:
    done = rollcall(left.folder, *command.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command",
    ["run", "check", "clients", "clients forget x", "sources", "alerts list", "deliveries list", "deliveries show 1",
     "deliveries retry 1", "quarantine list", "quarantine retry", "explain x", "replay -"],
)  # fmt: skip
def test_a_configuration_that_does_not_load_is_told_line_by_line(tmp_path: Path, command: str) -> None:
    words = command.split()
    missing = rollcall(tmp_path, *words, stdin=subprocess.DEVNULL)
    assert missing.returncode == 1
    assert (
        "config.yaml:1:1: the file does not exist: name another one with `-c FILE`, or create one with `rollcall init`"
        in missing.stdout + missing.stderr
    )
    (tmp_path / "config.yaml").write_text("version: 1\nrule: rules/\ndebounce: {offline: soon}\n")
    broken = rollcall(tmp_path, *words, stdin=subprocess.DEVNULL)
    assert broken.returncode == 1
    told = broken.stdout + broken.stderr
    assert "config.yaml:2:1: rule:" in told
    assert "config.yaml:3:21: debounce.offline:" in told
    assert "Traceback" not in told


def test_no_store_yet_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("version: 1\nhttp: null\n")
    done = rollcall(tmp_path, "clients")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no store at" in done.stderr
    (tmp_path / "data").write_text("a file where a folder should be")
    done = rollcall(tmp_path, "clients", "forget", "x")
    assert done.returncode == 1
    assert "is a file: `data` is a folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_is_no_regular_file_is_a_sentence_and_nothing_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("version: 1\nhttp: null\n")
    (tmp_path / "data").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "data" / "rollcall.sqlite3")
    for words in (("clients",), ("clients", "forget", "x")):
        done = rollcall(tmp_path, *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert "rollcall.sqlite3" in done.stderr and "Traceback" not in done.stderr


# Beginning


def test_init_writes_a_start_that_passes_its_check_and_serves(tmp_path: Path) -> None:
    done = rollcall(tmp_path, "init", "new/house")
    assert done.returncode == 0, done.stderr
    house = tmp_path / "new" / "house"
    assert rollcall(house, "check").stdout == "config.yaml: good, 2 rules\n"
    config = (house / "config.yaml").read_text()
    again = rollcall(tmp_path, "init", "new/house")
    assert (again.returncode, again.stdout) == (1, "")
    assert "config.yaml" in again.stderr
    assert (house / "config.yaml").read_text() == config


def test_init_writes_nothing_when_a_part_is_there_already(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "first.yaml").write_text("mine")
    assert rollcall(tmp_path, "init").returncode == 1
    assert not (tmp_path / "config.yaml").exists()
    assert (tmp_path / "rules" / "first.yaml").read_text() == "mine"
    (tmp_path / "a file").write_text("x")
    assert rollcall(tmp_path, "init", "a file").returncode == 2


# Replay


def recorded(folder: Path) -> Path:
    """A short recording with a name that would like to be markup."""
    hostile = f"G@@@<script>alert('{ESC}')</script>".replace(ESC, "")
    at = 1_767_225_600_000
    told = [event("G@@@a", "connect", "1", at), event("G@@@a", "tcpclean", "1", at + 60_000)]
    told += [event(hostile, "connect", "2", at + 1_000), event(hostile, "tcpclean", "2", at + 61_000), "{broken"]
    (folder / "events.jsonl").write_text("\n".join(told) + "\n")
    return folder / "events.jsonl"


def test_a_replay_is_a_readable_page(tmp_path: Path) -> None:
    rollcall(tmp_path, "init")
    recorded(tmp_path)
    done = rollcall(tmp_path, "replay", "events.jsonl", "--format", "html", "-o", "page.html")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    page = (tmp_path / "page.html").read_text()
    for expected in (
        "Alerts (2)",
        "Deliveries (2)",
        "Transitions (4)",
        "Rejected lines (1)",
        "device-offline",
        "G@@@a",
    ):
        assert expected in page
    assert page.count("<script") == 2 and "<script>alert" not in page, "only the rows and what searches them"
    assert "&lt;script&gt;" in page


def test_a_replay_compares_two_sets_of_rules_from_a_file_or_a_pipe(tmp_path: Path) -> None:
    rollcall(tmp_path, "init")
    events = recorded(tmp_path)
    (tmp_path / "other").mkdir()
    rules = (tmp_path / "rules" / "first.yaml").read_text()
    (tmp_path / "other" / "first.yaml").write_text(rules.replace("device-offline", "renamed"))
    from_file = rollcall(tmp_path, "replay", "events.jsonl", "--against", "other")
    from_pipe = rollcall(tmp_path, "replay", "-", "--against", "other", input=events.read_text())
    assert from_file.stdout == from_pipe.stdout
    assert from_file.stdout.splitlines()[-1] == "8 differences"
    page = rollcall(tmp_path, "replay", "events.jsonl", "--against", "other", "--format", "html").stdout
    assert "Differences (8)" in page


def test_a_mistake_costs_neither_the_recording_nor_an_older_result(tmp_path: Path) -> None:
    rollcall(tmp_path, "init")
    events = recorded(tmp_path)
    before = events.read_text()
    assert rollcall(tmp_path, "replay", "events.jsonl", "-o", "events.jsonl").returncode == 2
    assert events.read_text() == before
    (tmp_path / "result").write_text("older")
    (tmp_path / "rules" / "first.yaml").write_text("version: 1\nrules: [{name: x}]\n")
    assert rollcall(tmp_path, "replay", "events.jsonl", "-o", "result").returncode == 1
    assert (tmp_path / "result").read_text() == "older"
    rollcall(tmp_path, "init", "fresh")
    done = rollcall(tmp_path, "replay", "events.jsonl", "-c", "fresh/config.yaml", "-o", "no/such/folder")
    assert (done.returncode, done.stderr) == (1, "no/such/folder: No such file or directory\n")
