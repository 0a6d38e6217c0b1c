"""Tests of members.py: no socket, no edge, no reactor that runs."""

import pytest
from members import Middleware

from wormhole_tw.middleware import Request, Response
from wormhole_tw.testing import FakeService, answer_to, unavailable

MEMBERS = Middleware(secret="sixteen letters!", paths=["/members/"])


def cookie(name):
    return {"Cookie": f"member={name}.{MEMBERS.signature(name)}"}


def test_strangers_stay_outside():
    service = FakeService()
    answer = answer_to(MEMBERS, Request("GET", "https://site.example/members/list"), service)
    assert answer.status == 403
    assert service.requests == []


def test_members_come_in_by_their_name():
    service = FakeService(Response.text(200, "the list"))
    request = Request("GET", "https://site.example/members/list", headers={**cookie("ada"), "X-Member": "root"})
    answer = answer_to(MEMBERS, request, service)
    assert answer.content == b"the list"
    assert service.requests[0].headers.get_all("X-Member") == ["ada"]
    assert answer.headers["Vary"] == "Cookie"


def test_a_cookie_that_was_tampered_with_is_none():
    forged = {"Cookie": cookie("ada")["Cookie"].replace("ada", "root")}
    service = FakeService()
    answer_to(MEMBERS, Request("GET", "https://site.example/", headers=forged), service)
    assert "X-Member" not in service.requests[0].headers


@pytest.mark.parametrize("value", ["", "ada", "ada.", ".", "ada.\xe9", "%00." + "0" * 64])
def test_nonsense_in_the_cookie_is_nobody(value):
    answer = answer_to(MEMBERS, Request("GET", "https://site.example/members/", headers={"Cookie": f"member={value}"}))
    assert answer.status == 403


def test_logging_in():
    service = FakeService(lambda sent: Response(204 if b"password=right" in sent.content else 401))
    request = Request("POST", "https://site.example/login", body=b"name=ada&password=right")
    answer = answer_to(MEMBERS, request, service)
    assert (answer.status, answer.headers["Location"]) == (303, "/members/")
    assert answer.headers["Set-Cookie"].startswith("member=ada.")
    request = Request("POST", "https://site.example/login", body="name=Zoë+%0d%0a&password=right".encode())
    assert "=Zo%C3%AB%20%0D%0A." in answer_to(MEMBERS, request, service).headers["Set-Cookie"]
    request = Request("POST", "https://site.example/login", body=b"name=ada&password=wrong")
    assert answer_to(MEMBERS, request, service).status == 401


def test_a_service_that_is_away_is_not_hidden():
    with pytest.raises(type(unavailable())):
        answer_to(MEMBERS, Request(), FakeService(unavailable()))


def test_settings_are_checked():
    with pytest.raises(ValueError, match="16 characters"):
        Middleware(secret="short", paths=[])
