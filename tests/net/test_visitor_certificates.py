"""Visitors' certificates in TLS: who comes in, what is learnt, and that no session leads round it."""

from __future__ import annotations

import base64
import gc
import ssl
import weakref
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL

from tests._harness import LogLines
from tests.net.certificates import OddPerson, Person, Shaken
from wormhole_tw.net.dev_ca import DevCa
from wormhole_tw.net.tickets import Front
from wormhole_tw.net.tls import CertificateMap, ServerTls
from wormhole_tw.net.tls_policy import INTERMEDIATE, MODERN
from wormhole_tw.net.visitor_certificates import (
    MAX_DEPTH,
    MAX_KNOWN,
    MAX_NAMES,
    VisitorPolicies,
    VisitorPolicy,
)

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]

CA = Person("people CA", ca=True)
BETWEEN = Person("department", CA, ca=True)
ANNE = Person("anne", CA)
BERT = Person("bert", BETWEEN)
STRANGER = Person("stranger", Person("other CA", ca=True))


class Server:
    """Sites of one edge: ``open.test`` asks for nothing."""

    def __init__(self, authority: DevCa) -> None:
        names = ["edge.test", "open.test", "closed.test", "choice.test", "*.wild.test", "open.wild.test"]
        self.certificates = CertificateMap([authority.certificate_for([name]) for name in names])
        self.required = VisitorPolicy([CA.certificate], owner="required")
        self.optional = VisitorPolicy([CA.certificate], required=False, owner="optional")
        self.named = {
            "open.test": None,
            "closed.test": self.required,
            "Choice.Test": self.optional,
            "*.wild.test": self.required,
            "open.wild.test": None,
        }
        self.tls = ServerTls(self.certificates, [b"http/1.1"], visitors=VisitorPolicies(self.named))
        self.ca_pem = authority.ca_pem

    def ask(self, **policies: VisitorPolicy | None) -> None:
        """From now on these sites ask for these."""
        self.named |= {f"{label}.test": policy for label, policy in policies.items()}
        self.tls.swap(self.certificates, visitors=VisitorPolicies(self.named))


@pytest.fixture
def server(authority: DevCa) -> Server:
    return Server(authority)


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def spoken(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    found: ssl.TLSVersion = request.param
    return found


def context(
    server: Server, folder: Path, spoken: ssl.TLSVersion, person: Person | None = None, *chain: Person
) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=server.ca_pem.decode())
    made.check_hostname = False
    made.minimum_version = made.maximum_version = spoken
    if person is not None:
        made.load_cert_chain(*person.write(folder, *chain))
    return made


def test_required(server: Server, tmp_path: Path, spoken: ssl.TLSVersion) -> None:
    for name in ("closed.test", "any.wild.test"):
        anne = Shaken(server.tls, context(server, tmp_path, spoken, ANNE), name)
        assert anne.served is not None
        assert anne.served.visitors is server.required
        assert anne.served.visitors.owner == "required"
        certificate = anne.served.certificate
        assert certificate is not None
        assert certificate.fingerprint == ANNE.fingerprint.hex()
        assert certificate.subject == "CN=anne"
        assert certificate.field == b":" + base64.b64encode(ANNE.der) + b":"
        assert certificate.chain_field == b""
        # who has none, or one of somebody else's, is told by an alert
        nobody = Shaken(server.tls, context(server, tmp_path, spoken), name)
        assert nobody.served is None
        assert nobody.refusal in ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE")
        stranger = Shaken(server.tls, context(server, tmp_path, spoken, STRANGER), name)
        assert stranger.served is None
        assert stranger.refusal == "TLSV1_ALERT_UNKNOWN_CA"


def test_optional(server: Server, tmp_path: Path, spoken: ssl.TLSVersion) -> None:
    anne = Shaken(server.tls, context(server, tmp_path, spoken, ANNE), "choice.test")
    assert anne.served is not None
    assert anne.served.certificate is not None
    nobody = Shaken(server.tls, context(server, tmp_path, spoken), "choice.test")
    assert nobody.served is not None
    assert nobody.served.visitors is server.optional
    assert nobody.served.certificate is None
    # one that is not good is no certificate of nobody's
    stranger = Shaken(server.tls, context(server, tmp_path, spoken, STRANGER), "choice.test")
    assert stranger.served is None
    assert stranger.refusal == "TLSV1_ALERT_UNKNOWN_CA"


@pytest.mark.parametrize("name", ["open.test", "open.wild.test", "edge.test", "unknown.test", "a.b.wild.test", None])
def test_others_are_not_asked(server: Server, tmp_path: Path, spoken: ssl.TLSVersion, name: str | None) -> None:
    for person in (None, ANNE):
        shaken = Shaken(server.tls, context(server, tmp_path, spoken, person), name)
        assert shaken.served is not None
        assert shaken.served.visitors is None
        assert shaken.served.certificate is None


def test_a_certificate_that_is_over_or_for_something_else(
    server: Server, tmp_path: Path, spoken: ssl.TLSVersion
) -> None:
    old = Shaken(server.tls, context(server, tmp_path, spoken, Person("old", CA, ends=-1)), "closed.test")
    assert (old.served, old.refusal) == (None, "SSLV3_ALERT_CERTIFICATE_EXPIRED")
    web = Person("web", CA, purpose=ExtendedKeyUsageOID.SERVER_AUTH)
    wrong = Shaken(server.tls, context(server, tmp_path, spoken, web), "closed.test")
    assert (wrong.served, wrong.refusal) == (None, "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE")
    any_use = Person("any", CA, purpose=None)
    assert Shaken(server.tls, context(server, tmp_path, spoken, any_use), "closed.test").served is not None


def test_a_chain(server: Server, tmp_path: Path, spoken: ssl.TLSVersion) -> None:
    bert = Shaken(server.tls, context(server, tmp_path, spoken, BERT, BETWEEN), "closed.test")
    assert bert.served is not None
    assert bert.served.certificate is not None
    assert bert.served.certificate.chain_field == b":" + base64.b64encode(BETWEEN.der) + b":"
    # without it nobody knows who signed
    alone = Shaken(server.tls, context(server, tmp_path, spoken, BERT), "closed.test")
    assert (alone.served, alone.refusal) == (None, "TLSV1_ALERT_UNKNOWN_CA")
    # an intermediate CA alone is trusted as it is, and lets in whom it signed
    server.ask(closed=VisitorPolicy([BETWEEN.certificate]))
    bert = Shaken(server.tls, context(server, tmp_path, spoken, BERT), "closed.test")
    assert bert.served is not None
    assert bert.served.certificate is not None
    assert bert.served.certificate.chain_field == b""
    assert Shaken(server.tls, context(server, tmp_path, spoken, ANNE), "closed.test").served is None


def test_more_authorities_than_can_be_named(server: Server, tmp_path: Path, spoken: ssl.TLSVersion) -> None:
    """Whoever gives a bundle for a CA; TLS has no room for so many names, and every handshake would fail."""
    said = []
    for few in (True, False):
        others = [Person(f"{number} {'a long name ' * 5}", ca=True) for number in range(2 if few else MAX_NAMES // 60)]
        server.ask(closed=VisitorPolicy([*(other.certificate for other in others), CA.certificate, CA.certificate]))
        anne = Shaken(server.tls, context(server, tmp_path, spoken, ANNE), "closed.test")
        assert anne.served is not None
        assert anne.served.certificate is not None
        said.append(len(anne.server.get_client_ca_list()))
        assert Shaken(server.tls, context(server, tmp_path, spoken, STRANGER), "closed.test").served is None
    assert said == [3, 0]


def test_a_visitors_own_certificate_in_the_file(server: Server, tmp_path: Path, spoken: ssl.TLSVersion) -> None:
    me = Person("me")
    server.ask(closed=VisitorPolicy([me.certificate]))
    assert Shaken(server.tls, context(server, tmp_path, spoken, me), "closed.test").served is not None
    namesake = Person("me")
    assert Shaken(server.tls, context(server, tmp_path, spoken, namesake), "closed.test").served is None


@pytest.mark.parametrize("listed", [BERT, BETWEEN, CA], ids=["own", "between", "authority"])
def test_fingerprints(server: Server, tmp_path: Path, spoken: ssl.TLSVersion, listed: Person) -> None:
    server.ask(closed=VisitorPolicy([CA.certificate], fingerprints=frozenset([listed.fingerprint, bytes(32)])))
    bert = Shaken(server.tls, context(server, tmp_path, spoken, BERT, BETWEEN), "closed.test")
    assert bert.served is not None
    assert bert.served.certificate is not None
    anne = Shaken(server.tls, context(server, tmp_path, spoken, ANNE), "closed.test")
    if listed is CA:
        assert anne.served is not None
    else:
        assert (anne.served, anne.refusal) == (None, "SSLV3_ALERT_BAD_CERTIFICATE")
    # what the visitor sends besides is no part of its chain
    smuggled = Shaken(server.tls, context(server, tmp_path, spoken, ANNE, BETWEEN), "closed.test")
    assert (smuggled.served is None) is (listed is not CA)


def test_a_fingerprint_makes_no_certificate_good(server: Server, tmp_path: Path, spoken: ssl.TLSVersion) -> None:
    old, web = Person("old", CA, ends=-1), Person("web", CA, purpose=ExtendedKeyUsageOID.SERVER_AUTH)
    listed = frozenset(person.fingerprint for person in (old, web, STRANGER, BERT))
    server.ask(closed=VisitorPolicy([CA.certificate], fingerprints=listed))
    for person, refusal in (
        (old, "SSLV3_ALERT_CERTIFICATE_EXPIRED"),
        (web, "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"),
        (STRANGER, "TLSV1_ALERT_UNKNOWN_CA"),
        (BERT, "TLSV1_ALERT_UNKNOWN_CA"),  # without the one between
    ):
        refused = Shaken(server.tls, context(server, tmp_path, spoken, person), "closed.test")
        assert (refused.served, refused.refusal) == (None, refusal)


def test_how_many_may_stand_between(server: Server, tmp_path: Path, spoken: ssl.TLSVersion) -> None:
    chain = [CA]
    for number in range(MAX_DEPTH + 1):
        chain.append(Person(f"department {number}", chain[-1], ca=True))
        person = Person("deep", chain[-1])
        shaken = Shaken(server.tls, context(server, tmp_path, spoken, person, *reversed(chain[1:])), "closed.test")
        assert (shaken.served is not None) is (number < MAX_DEPTH), number
    assert shaken.refusal == "TLSV1_ALERT_UNKNOWN_CA"


def resumed(server: Server, made: ssl.SSLContext, name: str, session: object) -> Shaken:
    again = Shaken(server.tls, made, name, session)
    assert again.served is not None
    return again


def test_a_session_is_resumed_where_it_began(server: Server, tmp_path: Path, spoken: ssl.TLSVersion) -> None:
    made = context(server, tmp_path, spoken, BERT, BETWEEN)
    first = Shaken(server.tls, made, "closed.test")
    again = resumed(server, made, "closed.test", first.session)
    assert again.resumed
    assert again.served is not None
    assert again.served.visitors is server.required
    # the chain too, which the ticket does not hold
    assert first.served is not None
    assert again.served.certificate is first.served.certificate
    # and where it is forgotten, the certificate alone
    server.required._known.clear()
    forgotten = resumed(server, made, "closed.test", first.session).served
    assert forgotten is not None
    assert forgotten.certificate is not None
    assert forgotten.certificate.fingerprint == BERT.fingerprint.hex()
    assert forgotten.certificate.chain_field == b""
    assert not server.required._known
    # a site that asks for the same
    assert resumed(server, made, "any.wild.test", first.session).resumed


def test_no_session_leads_to_a_site_that_asks_for_something_else(
    server: Server, tmp_path: Path, spoken: ssl.TLSVersion
) -> None:
    nobody, anne = context(server, tmp_path, spoken), context(server, tmp_path, spoken, ANNE)
    sites = ("open.test", "choice.test", "closed.test")
    for made in (nobody, anne):
        for first in sites:
            begun = Shaken(server.tls, made, first)
            if begun.served is None:
                assert (made, first) == (nobody, "closed.test")
                continue
            for second in sites:
                again = Shaken(server.tls, made, second, begun.session)
                assert again.resumed is (first == second), (first, second)
                if second == "closed.test" and made is nobody:
                    assert again.served is None
                elif second == "open.test":
                    assert again.served is not None
                    assert again.served.certificate is None


def test_what_changes_ends_sessions_and_what_stays_keeps_them(
    server: Server, authority: DevCa, tmp_path: Path, spoken: ssl.TLSVersion
) -> None:
    made = context(server, tmp_path, spoken, ANNE)
    closed, open_ = Shaken(server.tls, made, "closed.test"), Shaken(server.tls, made, "open.test")
    # a reload: new certificates, and the same policies
    server.certificates = CertificateMap([authority.certificate_for(["edge.test"]), *server.certificates.materials[1:]])
    server.ask()
    assert resumed(server, made, "closed.test", closed.session).resumed
    assert resumed(server, made, "open.test", open_.session).resumed
    # other people: who was let in before shakes hands again, and is not let in
    server.ask(closed=VisitorPolicy([CA.certificate], fingerprints=frozenset([BERT.fingerprint])))
    assert Shaken(server.tls, made, "closed.test", closed.session).served is None
    # a site that was open
    server.ask(open=server.required)
    again = resumed(server, made, "open.test", open_.session)
    assert not again.resumed
    assert again.served is not None
    assert again.served.certificate is not None


def test_who_is_judged_by_another_name_is_not_judged(server: Server, tmp_path: Path, spoken: ssl.TLSVersion) -> None:
    """A ClientHello that was not whole, or that we read in another way than OpenSSL."""
    made = context(server, tmp_path, spoken, ANNE)
    unseen = Shaken(server.tls, made, "closed.test", hello=False)
    assert unseen.served is not None
    assert unseen.served.server_name == "closed.test"
    assert (unseen.served.visitors, unseen.served.certificate) == (None, None)
    # and one that was let in without a certificate where one is needed, which OpenSSL does not do
    without = Shaken(server.tls, context(server, tmp_path, spoken), "choice.test")
    server.optional.required = True
    judged = without.judged()
    assert judged is not None
    assert (judged.visitors, judged.certificate) == (None, None)
    seen = Shaken(server.tls, made, "closed.test")
    seen.server.server_name = "any.wild.test"  # type: ignore[attr-defined]
    judged = seen.judged()
    assert judged is not None
    assert (judged.visitors, judged.certificate) == (None, None)


def test_a_certificate_that_ended_since(server: Server, tmp_path: Path, spoken: ssl.TLSVersion) -> None:
    short = Person("short", CA)
    first = Shaken(server.tls, context(server, tmp_path, spoken, short), "closed.test")
    assert first.served is not None
    assert first.served.certificate is not None
    # as time would do it: what was learnt of it says when it ends
    ended = type(first.served.certificate)(
        first.served.certificate.fingerprint, "", b"", b"", Person("x", ends=-1).certificate.not_valid_after_utc
    )
    server.required._known[ended.fingerprint] = ended
    again = Shaken(server.tls, context(server, tmp_path, spoken, short), "closed.test")
    assert again.served is not None
    assert (again.served.visitors, again.served.certificate) == (None, None)


def test_what_is_remembered_has_a_bound(server: Server, tmp_path: Path) -> None:
    filler = dict.fromkeys(map(str, range(MAX_KNOWN)))
    server.required._known.update(filler)  # type: ignore[arg-type]
    Shaken(server.tls, context(server, tmp_path, ssl.TLSVersion.TLSv1_3, ANNE), "closed.test")
    assert len(server.required._known) == MAX_KNOWN
    assert "0" not in server.required._known
    assert ANNE.fingerprint.hex() in server.required._known


@pytest.mark.parametrize("listed", [False, True])
def test_a_certificate_that_openssl_alone_can_read(
    server: Server, tmp_path: Path, spoken: ssl.TLSVersion, listed: bool
) -> None:
    odd = OddPerson("odd", CA)
    server.ask(closed=VisitorPolicy([CA.certificate], fingerprints=frozenset([odd.fingerprint] if listed else [])))
    made = context(server, tmp_path, spoken, odd)
    shaken = Shaken(server.tls, made, "closed.test")
    for served in (shaken.served, resumed(server, made, "closed.test", shaken.session).served):
        assert served is not None
        shown = served.certificate
        assert shown is not None
        assert (shown.fingerprint, shown.subject) == (odd.fingerprint.hex(), "")
        assert shown.field == b":" + base64.b64encode(odd.der) + b":"
        assert shown.not_after == odd.certificate.not_valid_after_utc


def test_the_key_of_tickets_changes(server: Server, tmp_path: Path, spoken: ssl.TLSVersion) -> None:
    for name in ("open.test", "closed.test"):
        made = context(server, tmp_path, spoken, ANNE)
        first = Shaken(server.tls, made, name)
        server.tls.rotate_tickets()
        # the one before is good still, and the new one seals
        assert resumed(server, made, name, first.session).resumed
        second = Shaken(server.tls, made, name)
        assert not second.resumed
        assert second.session.id != first.session.id
        assert resumed(server, made, name, second.session).resumed
        server.tls.rotate_tickets()
        assert not resumed(server, made, name, first.session).resumed
        assert resumed(server, made, name, second.session).resumed
        server.tls.rotate_tickets()
        assert not resumed(server, made, name, second.session).resumed


def test_who_comes_back_by_a_cut_hello_shakes_hands(server: Server, tmp_path: Path, spoken: ssl.TLSVersion) -> None:
    made = context(server, tmp_path, spoken)
    first = Shaken(server.tls, made, "open.test")
    server.tls.rotate_tickets()
    again = Shaken(server.tls, made, "open.test", first.session, hello=False)
    assert again.served is not None
    assert not again.resumed


@pytest.mark.parametrize("name", ["open.test", "closed.test"])
def test_modern(server: Server, tmp_path: Path, name: str) -> None:
    old, new = (context(server, tmp_path, version, ANNE) for version in VERSIONS)
    first = Shaken(server.tls, new, name)
    server.tls.swap(server.certificates, tls=MODERN)
    again = Shaken(server.tls, new, name, first.session)
    assert again.served is not None
    assert again.served.version == "TLSv1.3"
    assert not again.resumed
    refused = Shaken(server.tls, old, name)
    assert (refused.served, refused.refusal) == (None, "TLSV1_ALERT_PROTOCOL_VERSION")
    server.tls.rotate_tickets()
    assert resumed(server, new, name, again.session).resumed
    server.tls.swap(server.certificates, tls=INTERMEDIATE)
    assert Shaken(server.tls, old, name).served is not None
    assert ServerTls(server.certificates, [], tls=MODERN).certificates is server.certificates


async def test_without_its_name_the_last_key_is_not_kept(log_lines: LogLines) -> None:
    front = Front(lambda: SSL.Context(SSL.TLS_METHOD))  # which shakes hands with nobody: it has no certificate
    first = front.context_for(b"anything")
    assert front.rotate()
    second = front.context_for(b"anything")
    assert "the last key of session tickets is not kept" in log_lines
    assert second is not first
    assert front.context_for(b"anything") is second


def test_keys_that_nobody_uses_go(server: Server, tmp_path: Path, spoken: ssl.TLSVersion) -> None:
    made = context(server, tmp_path, spoken, ANNE)
    sessions = {name: Shaken(server.tls, made, name).session for name in ("open.test", "closed.test")}
    server.tls.rotate_tickets()
    assert server.required in server.tls._fronts
    server.tls.rotate_tickets()
    assert server.tls._fronts == {}
    for name, session in sessions.items():
        assert not resumed(server, made, name, session).resumed


def test_a_reload_in_the_middle_of_a_handshake(server: Server, tmp_path: Path, spoken: ssl.TLSVersion) -> None:
    """What OpenSSL calls back to is still there, and the judge is the one that asked."""
    listed = VisitorPolicy([CA.certificate], fingerprints=frozenset([ANNE.fingerprint]), owner="before")
    for person in (ANNE, BERT):
        server.ask(closed=listed)

        def reload() -> None:
            server.ask(closed=VisitorPolicy([STRANGER.certificate]))
            server.tls.rotate_tickets()
            server.tls.rotate_tickets()
            gc.collect()

        made = context(server, tmp_path, spoken, person, BETWEEN)
        shaken = Shaken(server.tls, made, "closed.test", meanwhile=reload)
        if person is BERT:
            assert shaken.served is None
        else:
            assert shaken.served is not None
            assert shaken.served.visitors is listed


def test_the_last_key_is_kept_where_not_every_name_has_a_certificate_yet(
    server: Server, authority: DevCa, tmp_path: Path, spoken: ssl.TLSVersion
) -> None:
    """As with mode = "acme": who names nobody is refused, and the edge that asks itself is not."""
    open_ = authority.certificate_for(["open.test"])
    server.tls.swap(CertificateMap([open_], missing=["edge.test"]))
    made = context(server, tmp_path, spoken)
    assert Shaken(server.tls, made, None).served is None
    first = Shaken(server.tls, made, "open.test")
    server.tls.rotate_tickets()
    assert resumed(server, made, "open.test", first.session).resumed


def test_a_server_that_is_over_is_gone(authority: DevCa) -> None:
    """With its keys, though OpenSSL calls back to it."""
    policy = VisitorPolicy([CA.certificate])
    certificates = CertificateMap([authority.certificate_for(["closed.test"])])
    tls = ServerTls(certificates, [b"h2"], visitors=VisitorPolicies({"closed.test": policy}))
    made = ssl.create_default_context(cadata=authority.ca_pem.decode())
    assert Shaken(tls, made, "closed.test").refusal is not None
    over = weakref.ref(tls)
    del tls
    gc.collect()
    assert over() is None


def test_where_the_library_is_another_who_is_not_listed_is_refused_all_the_same(
    server: Server, tmp_path: Path, spoken: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = VisitorPolicy([CA.certificate], fingerprints=frozenset([BERT.fingerprint]))
    server.ask(closed=listed)
    with monkeypatch.context() as patch:
        patch.setattr("wormhole_tw.net.visitor_certificates._say_why", lambda *_: None)
        bert = Shaken(server.tls, context(server, tmp_path, spoken, BERT, BETWEEN), "closed.test")
    assert bert.served is not None
    anne = Shaken(server.tls, context(server, tmp_path, spoken, ANNE), "closed.test")
    assert (anne.served, anne.refusal) == (None, "TLSV1_ALERT_INTERNAL_ERROR")
