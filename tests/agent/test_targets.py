"""TARGET as people write it."""

from __future__ import annotations

import pytest

from wormhole_tw.agent.targets import Target, parse_target


@pytest.mark.parametrize(
    ("text", "target", "shown"),
    [
        ("8000", Target("tcp", "127.0.0.1", 8000), "127.0.0.1:8000"),
        (":8000", Target("tcp", "127.0.0.1", 8000), "127.0.0.1:8000"),
        (" db.internal:5432 ", Target("tcp", "db.internal", 5432), "db.internal:5432"),
        ("tcp:8080", Target("tcp", "tcp", 8080), "tcp:8080"),
        ("[::1]:9797", Target("tcp", "::1", 9797), "[::1]:9797"),
        ("http://127.0.0.1:9797", Target("tcp", "127.0.0.1", 9797, tls=False), "127.0.0.1:9797"),
        ("http://web/", Target("tcp", "web", 80, tls=False), "web:80"),
        ("https://web", Target("tcp", "web", 443, tls=True), "https://web:443"),
        ("https://[::1]:8443", Target("tcp", "::1", 8443, tls=True), "https://[::1]:8443"),
        ("unix:/run/app.sock", Target("unix", path="/run/app.sock"), "unix:/run/app.sock"),
        (
            "unix:/run/app.sock:timeout=3",
            Target("description", path="unix:/run/app.sock:timeout=3"),
            "unix:/run/app.sock:timeout=3",
        ),
        (
            "tcp:host=127.0.0.1:port=80",
            Target("description", path="tcp:host=127.0.0.1:port=80"),
            "tcp:host=127.0.0.1:port=80",
        ),
        ("tcp:127.0.0.1:80", Target("description", path="tcp:127.0.0.1:80"), "tcp:127.0.0.1:80"),
    ],
)
def test_what_is_understood(text: str, target: Target, shown: str) -> None:
    assert parse_target(text) == target
    assert str(target) == shown


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("localhost", "no port"),
        ("0", "a port is a number"),
        ("70000", "a port is a number"),
        ("ftp://web", "ftp:// is not known"),
        ("http://me:secret@web", "user name"),
        ("http://web/path", "without a path"),
        ("https://web?x=1", "without a path"),
        ("unix:/" + "x" * 120, "longer than the 107 bytes"),
        ("::1", "no port"),
    ],
)
def test_what_is_refused_says_what_to_write(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        parse_target(text)
    assert "secret" not in str(caught.value)
