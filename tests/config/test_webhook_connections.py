"""The section `webhooks`: what is wrong with a proxy, a certificate or a key is said when the file is read, with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.config.loader import load_config
from engine.errors import InvalidFiles
from tests.connections.authority import Authority


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    authority = Authority(tmp_path_factory.mktemp("config"))
    for name in ("one", "two"):
        authority.issue(name)
    authority.issue("old", "20200101000000Z", "20200102000000Z")
    authority._openssl("pkcs8", "-topk8", "-in", "one.key", "-out", "locked.key", "-passout", "pass:x")
    (authority.folder / "both.pem").write_text(
        (authority.folder / "one.pem").read_text() + (authority.folder / "one.key").read_text()
    )
    (authority.folder / "text.pem").write_text("hello")
    (authority.folder / "proxy").write_text("http://me:pa55word@proxy:3128\n")
    return authority.folder


def problems(folder: Path, section: str) -> list[str]:
    """What is said of a configuration with this section."""
    file = folder / "config.yaml"
    file.write_text(f"version: 1\nwebhooks:\n  {section}\n")
    try:
        found = load_config(file).warnings
    except InvalidFiles as error:
        found = tuple(error.problems)
    return [f"{problem.line}:{problem.path}: {problem.message}" for problem in found]


@pytest.mark.parametrize(
    "section",
    [
        "proxy: http://proxy.example.com:3128",
        "proxy: http://[::1]:3128/",
        "proxy: {file: proxy}",
        "proxy: none",
        "ca: ca.pem",
        "{cert: one.pem, key: one.key}",
        "cert: both.pem",
        "{}",
    ],
)
def test_what_can_be_used_is_taken_without_a_word(folder: Path, section: str) -> None:
    assert problems(folder, section) == []


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("proxy: proxy.example.com:3128", "3:webhooks.proxy: must be a URL such as http://"),
        ("proxy: socks5://proxy:1080", "is a SOCKS proxy, which is not supported"),
        ("proxy: http://proxy:3128/path", "a proxy has no path"),
        ("proxy: http://me:pa55word@proxy:3128", "holds a password in plain text"),
        ("proxy: {env: NOT_SET_ANYWHERE}", "the environment variable NOT_SET_ANYWHERE is not set"),
        ("ca: gone.pem", "gone.pem does not exist"),
        ("ca: text.pem", "holds no certificate"),
        ("{cert: one.pem, key: gone.key}", "3:webhooks.key: "),
        ("{cert: one.pem, key: two.key}", "is not the key of the certificate"),
        ("{cert: one.pem, key: locked.key}", "is encrypted with a password"),
        ("cert: one.pem", "name the file of the key in `key`"),
        ("{cert: old.pem, key: old.key}", "has expired on 2020-01-02"),
        ("key: one.key", "is the key of a certificate: name the certificate in `cert`"),
        ("http_proxy: http://proxy:3128", "write `proxy`"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_line(folder: Path, section: str, said: str) -> None:
    (found,) = problems(folder, section)
    assert said in found and found.startswith("3:") and "pa55word" not in found
