"""Passwords and identity headers over a real edge: other spellings, other routes, HTTP/2, and a file that changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bcrypt

from tests.end_to_end.house import APP, House, open_house
from tests.end_to_end.origin import Call, Origin


def heard(call: Call) -> None:
    """What the service was told."""
    said = {name.lower(): call.headers.get_all(name) for name in sorted(set(call.headers))}
    wanted = ("user", "cookie", "authorization")
    call.answer(json.dumps({name: value for name, value in said.items() if any(w in name for w in wanted)}).encode())


def user(name: str, password: str) -> str:
    return f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(8)).decode()}\n"


def ask(house: House, path: str, *args: str) -> tuple[int, dict[str, Any]]:
    """Status, and what the service was told."""
    done = house.curl("-sS", "--path-as-is", "-A", "", "-w", "\n%{http_code}", *args, house.url(path))
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), json.loads(body) if status == b"200" else {}


def test_who_is_let_in_and_what_a_service_is_told(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(user("ann", "sesame-one"))
    paths = ("/in", "/in/x", "/open", "/")
    with Origin(dict.fromkeys(paths, heard)) as origin, open_house(tmp_path, hosts={APP: "app"}) as house:
        house.config["edge"]["watch"] = True
        [site] = house.config["sites"]
        basic = {"users_file": "users", "user_header": "X-User"}
        site["routes"] = [{"path": "/in", "backend": "app", "basic_auth": basic}, {"path": "/", "backend": "app"}]
        house.write()
        edge = house.start_edge()
        house.agent("agent", origin.port)
        lies = ("-H", "X-User: root", "-H", "X_User: root", "-H", "x.uSER: root")
        for version in ("--http1.1", "--http2"):
            for path in ("/in", "/in/x", "/%69n", "/open/../in", "/./in/x", "/in/../in/x"):
                assert ask(house, path, version, *lies)[0] == 401, path
            assert ask(house, "/in/x", version, *lies, "-u", "ann:sesame-one") == (200, {"x-user": ["ann"]})
            # the open route tells nobody who it is, and nobody says so there
            assert ask(house, "/open", version, *lies, "-u", "ann:no")[1].keys() == {"authorization"}
        named = ("-H", "Connection: X-User, authorization", "-u", "ann:sesame-one")
        assert ask(house, "/in", *named) == (200, {"x-user": ["ann"]})
        assert ask(house, "/open", "--request-target", f"https://{APP}:{house.port}/in")[0] == 401

        mark = edge.mark()
        users.write_text(user("ann", "sesame-two"))
        edge.wait_for("configuration reloaded", after=mark)
        assert ask(house, "/in", "-u", "ann:sesame-one")[0] == 401
        assert ask(house, "/in", "-u", "ann:sesame-two")[0] == 200
        assert edge.count("sesame") == 0
