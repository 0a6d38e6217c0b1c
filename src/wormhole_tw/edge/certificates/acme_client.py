"""RFC 8555 in single steps, through the ``acme`` library.

Everything here blocks: it is called in a thread, one call of a client at a time.  What the CA says against us, and that
it cannot be had, come out as two errors, each with a sentence for the operator; nothing of the library's leaves here.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import josepy.errors
import requests
from acme import errors, messages
from acme.client import ClientV2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from josepy.interfaces import JSONDeSerializable
from josepy.json_util import field as json_field
from josepy.jwk import JWKEC
from josepy.util import ComparableECKey

from wormhole_tw.edge.certificates.acme_files import read_hmac_key
from wormhole_tw.edge.certificates.acme_network import Network
from wormhole_tw.edge.certificates.acme_words import of_network, of_problem, of_proxy, of_tls, shown
from wormhole_tw.errors import CaRefused, CaUnavailable
from wormhole_tw.net.pem import read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wormhole_tw.control.acme import AcmeConfig

__all__ = ["CLOCK_TOLERANCE", "AcmeClient", "Authorization", "Challenge", "Order"]

NO_RENEWAL = 21600.0
"""Seconds until the CA is asked again when to renew a certificate that it does not know: as long as where it says
nothing (RFC 9773 section 4.3.3)."""

CLOCK_TOLERANCE = 300.0
"""Seconds that the CA's clock and this machine's may differ without a word."""


_PROXY_ERRORS = (
    requests.exceptions.ProxyError,
    requests.exceptions.InvalidURL,  # as a rule the proxy's
    requests.exceptions.InvalidSchema,
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to prove a name.

    :ivar kind: "http-01", "dns-01", or another one's name
    :ivar value: what is to be found under the token's path, or in the TXT record
    :ivar status: "pending", "processing", "valid" or "invalid"
    """

    kind: str
    uri: str
    token: str
    value: str
    status: str


@dataclass(frozen=True, slots=True)
class Authorization:
    """What the CA knows of our right to a name.

    :ivar name: as it was ordered; a wildcard with its asterisk
    :ivar status: "pending", "valid", "invalid", "deactivated", "expired" or "revoked"
    :ivar error: of the challenge that failed, or an empty string
    :ivar retry_after: seconds after which the CA wants to be asked again, or None
    """

    name: str
    status: str
    challenges: Mapping[str, Challenge]
    error: str
    retry_after: float | None


@dataclass(frozen=True, slots=True)
class Order:
    """An order as the CA has it.

    :ivar status: "pending", "ready", "processing", "valid" or "invalid"
    :ivar certificate: its URL, once it is valid
    :ivar error: why it is invalid, or an empty string
    :ivar retry_after: seconds after which the CA wants to be asked again, or None
    """

    uri: str
    status: str
    authorizations: tuple[str, ...]
    finalize: str
    certificate: str
    error: str
    retry_after: float | None


class _NewOrder(messages.NewOrder):
    """With what RFC 9773 section 5 adds."""

    replaces: str | None = json_field("replaces", omitempty=True)


class AcmeClient:
    """One account at one CA.

    :param key: the account's private key
    :raises ConfigError: ``directory_ca_file`` or the HMAC key's file cannot be read
    """

    def __init__(self, config: AcmeConfig, key: ec.EllipticCurvePrivateKey, *, source: str) -> None:
        self._config = config
        self._jwk = JWKEC(key=ComparableECKey(key))
        verify: bool | str = True
        if config.directory_ca_file is not None:
            read_file(config.directory_ca_file, source=source, key="$.tls.directory_ca_file")
            verify = str(config.directory_ca_file)
        self._hmac = read_hmac_key(config, source)
        self._net = Network(self._jwk, verify)
        self._client: ClientV2 | None = None
        self.uri = ""

    @property
    def skew(self) -> float | None:
        """Seconds by which this machine's clock is ahead of the CA's last answer; None where that did not say."""
        return self._net.skew

    # The CA, and the account.

    def open(self) -> None:
        """Read the directory.

        :raises CaUnavailable: it cannot be had, or it is no ACME directory
        """
        if self._client is not None:
            return
        where = self._config.directory
        with self._sentences():
            directory = ClientV2.get_directory(where, self._net)
            for name in ("newNonce", "newAccount", "newOrder"):
                if not isinstance(directory[name], str):
                    raise KeyError(name)
            self._client = ClientV2(directory, self._net)

    def register(self) -> str:
        """Make an account for the key, or find the one that it has; gives its URL and uses it from now on.

        :raises CaRefused: the CA wants no such account
        :raises CaUnavailable: it cannot be had
        """
        client = self._opened
        config = self._config
        self._be_nobody()
        with self._sentences():
            binding = None
            if config.external_account is not None:
                binding = messages.ExternalAccountBinding.from_data(
                    self._jwk.public_key(), config.external_account.key_id, self._hmac, client.directory
                )
            elif client.external_account_required():
                raise CaRefused(
                    "externalAccountRequired",
                    "this CA wants an account that you have there already: give [tls.external_account] key_id and "
                    "hmac_key_file",
                )
            new = messages.NewRegistration.from_data(
                email=config.email or None, terms_of_service_agreed=True, external_account_binding=binding
            )
            try:
                uri = client.new_account(new).uri
            except errors.ConflictError as error:
                uri = error.location
        self.use(uri)
        return uri

    def use(self, uri: str) -> None:
        """Go on with an account that is known."""
        self.uri = uri
        self._net.account = messages.RegistrationResource(body=messages.Registration(), uri=uri)

    def _be_nobody(self) -> None:
        """Sign with the key itself, as requests about accounts are (RFC 8555 section 6.2).

        Which account it is has to be said anew afterwards, also where the CA goes away meanwhile.
        """
        self.uri = ""
        self._net.account = None

    def tell_email(self) -> None:
        """Say to the CA where it may write to now.

        :raises CaRefused: it does not like it
        :raises CaUnavailable: it cannot be had
        """
        email = self._config.email
        contact = (f"mailto:{email}",) if email else ()
        with self._sentences():
            self._post(self.uri, messages.UpdateRegistration(contact=contact))

    def find_account(self) -> str:
        """The URL of the key's account at the CA (RFC 8555 section 7.3.1), which is used from now on.

        :raises CaRefused: with code ``accountDoesNotExist`` where the CA does not know it, ``unauthorized`` where it
            was closed
        :raises CaUnavailable: the CA cannot be had
        """
        self._be_nobody()
        with self._sentences():
            response = self._post(
                self._opened.directory["newAccount"], messages.Registration(only_return_existing=True)
            )
            status = response.json().get("status", "valid")
            if status != "valid":
                raise CaRefused("unauthorized", f"the account is {shown(status)}")
            uri = response.headers["Location"]
        self.use(uri)
        return uri

    def close_account(self) -> None:
        """Deactivate the account for good (RFC 8555 section 7.3.6).

        :raises CaRefused: the CA will not
        :raises CaUnavailable: it cannot be had
        """
        with self._sentences():
            self._post(self.uri, messages.UpdateRegistration.from_json({"status": "deactivated"}))

    # Orders.

    def new_order(self, names: Sequence[str], replaces: x509.Certificate | None = None) -> Order:
        """Order a certificate.

        :param replaces: the one that it is to take the place of, for CAs that look after renewals (RFC 9773)
        :raises CaRefused: the CA wants none of it; ``names`` of the error says which, where it tells
        :raises CaUnavailable: it cannot be had
        """
        identifiers = [messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=name) for name in names]
        old = certificate_id(replaces) if replaces is not None and self.offers_renewal_info else None
        with self._sentences():
            url = self._opened.directory["newOrder"]
            try:
                response = self._post(url, _NewOrder(identifiers=identifiers, replaces=old))
            except (messages.Error, errors.ConflictError) as error:
                # Whatever the CA has against that certificate (it was replaced already, it is another CA's): the order
                # is a good one without it (RFC 9773 section 5). A limit stays one.
                if old is None or getattr(error, "code", None) == "rateLimited":
                    raise
                response = self._post(url, _NewOrder(identifiers=identifiers))
            return self._order_of(response, response.headers["Location"])

    def order(self, uri: str) -> Order:
        """How an order stands.

        :raises CaRefused: there is none of this URL, or it is not ours
        :raises CaUnavailable: the CA cannot be had
        """
        with self._sentences(known=True):
            return self._order_of(self._post(uri, None), uri)

    def authorization(self, uri: str) -> Authorization:
        """How the proof of one name stands.

        :raises CaRefused: there is none of this URL, or it is not ours
        :raises CaUnavailable: the CA cannot be had
        """
        with self._sentences(known=True):
            body = self._post(uri, None).json()
            name = str(body["identifier"]["value"]).lower()
            found, failed = {}, ""
            for entry in body.get("challenges", ()):
                challenge = self._challenge(entry)
                found[challenge.kind] = challenge
                if entry.get("error") is not None:
                    failed = of_problem(messages.Error.from_json(entry["error"]))
            wildcard = "*." if body.get("wildcard") else ""
            return Authorization(wildcard + name, str(body["status"]), found, failed, self._retry_after)

    def answer(self, challenge: Challenge) -> None:
        """Tell the CA that it may look.

        :raises CaRefused: it will not
        :raises CaUnavailable: it cannot be had
        """
        with self._sentences(known=True):
            self._post(challenge.uri, _Empty())

    def finalize(self, order: Order, names: Sequence[str], key_pem: str) -> Order:
        """Send the request for the certificate; all names are proved.

        :raises CaRefused: the CA does not like it
        :raises CaUnavailable: it cannot be had
        """
        with self._sentences(known=True):
            request = messages.CertificateRequest(csr=_request(names, key_pem))
            return self._order_of(self._post(order.finalize, request), order.uri)

    def certificate(self, order: Order) -> str:
        """The certificate and its chain, PEM.

        :raises CaRefused: the CA will not give it
        :raises CaUnavailable: it cannot be had
        """
        with self._sentences(known=True):
            return self._post(order.certificate, None).text

    # Renewal.

    @property
    def offers_renewal_info(self) -> bool:
        """The CA says itself when to renew (RFC 9773)."""
        return "renewalInfo" in self._opened.directory.to_partial_json()

    def renewal(self, certificate: x509.Certificate) -> tuple[float | None, float]:
        """When to renew, and when to ask again; both seconds since 1970, the first None where the CA does not say.

        :raises CaUnavailable: it cannot be had, or its answer makes no sense
        """
        with self._sentences():
            try:
                at, ask_at = self._opened.renewal_time(certificate.public_bytes(Encoding.PEM))
            except errors.ARIError as error:
                if 400 <= self._net.status < 500 and self._net.status != 429:
                    return None, time.time() + NO_RENEWAL  # of this certificate it knows nothing: another CA's
                raise error.__cause__ or error from None
        # the library's second one is of the local time zone, and says so nowhere
        return (None if at is None else at.timestamp()), ask_at.timestamp()

    # Within.

    @property
    def _opened(self) -> ClientV2:
        assert self._client is not None
        return self._client

    def _post(self, url: str, body: Any) -> requests.Response:
        return self._net.post(url, body, new_nonce_url=self._opened.directory["newNonce"])

    @property
    def _retry_after(self) -> float | None:
        if "Retry-After" not in self._net.seen:
            return None
        text = self._net.seen["Retry-After"].strip()
        if text.isdigit():
            return float(text[:9])
        try:
            return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
        except (ValueError, TypeError, OverflowError):
            return None

    def _order_of(self, response: requests.Response, uri: str) -> Order:
        body = response.json()
        problem = body.get("error")
        return Order(
            uri=uri,
            status=str(body["status"]),
            authorizations=tuple(map(str, body["authorizations"])),
            finalize=str(body["finalize"]),
            certificate=str(body.get("certificate") or ""),
            error="" if problem is None else of_problem(messages.Error.from_json(problem)),
            retry_after=self._retry_after,
        )

    def _challenge(self, entry: Mapping[str, Any]) -> Challenge:
        kind, token = str(entry["type"]), str(entry.get("token", ""))
        value = ""
        if kind in ("http-01", "dns-01"):
            if re.fullmatch(r"[A-Za-z0-9_-]{1,256}", token) is None:
                raise ValueError("a challenge's token is not base64url")
            value = f"{token}.{_base64(self._jwk.thumbprint())}"
            if kind == "dns-01":
                digest = hashes.Hash(hashes.SHA256())
                digest.update(value.encode("ascii"))
                value = _base64(digest.finalize())
        return Challenge(kind, str(entry["url"]), token, value, str(entry.get("status", "pending")))

    @contextmanager
    def _sentences(self, *, known: bool = False) -> Iterator[None]:
        """Turn what the library raises into our two errors.

        :param known: it is about something that the CA has made: that this is not there is the CA's word, and no
            trouble with its server
        """
        host = self._config.directory
        try:
            yield
        except messages.Error as error:
            sentence = of_problem(error)
            # Whatever it is called: a busy server calls it rateLimited, and has nothing against the names.
            if self._net.status >= 500 or error.code in ("serverInternal", "badNonce"):
                raise CaUnavailable(f"the CA has a fault of its own: {sentence}", self._retry_after) from None
            names = tuple(sub.identifier.value.lower() for sub in error.subproblems or () if sub.identifier is not None)
            raise CaRefused(error.code or "unknown", sentence, names, self._retry_after) from None
        except errors.ClientError as error:
            answer = error.args[0] if error.args else None
            answer = answer[0] if isinstance(answer, tuple) else answer
            status = getattr(answer, "status_code", None)
            said = f"answers {status}" if status is not None else "does not answer as an ACME server does"
            if known and status in (404, 410):
                raise CaRefused("unknown", f"{host} knows nothing of it ({status})") from None
            hint = "" if self._client is not None else "; is it the URL of an ACME directory?"
            self._client = None  # what it offers where is asked for again: that may have changed
            raise CaUnavailable(f"{host} {said}{hint}", self._retry_after) from None
        except requests.exceptions.SSLError as error:
            raise CaUnavailable(f"{host}: {of_tls(str(error))}") from None
        except requests.exceptions.Timeout:
            raise CaUnavailable(f"{host} does not answer in time") from None
        except _PROXY_ERRORS as error:
            raise CaUnavailable(f"{host} cannot be reached: {of_proxy(error)}") from None
        except requests.exceptions.JSONDecodeError:
            raise CaUnavailable(f"{host} does not answer as an ACME server does") from None
        except (requests.exceptions.RequestException, OSError) as error:
            raise CaUnavailable(f"{host} cannot be reached: {of_network(error)}") from None
        except (errors.Error, josepy.errors.Error, KeyError, ValueError, TypeError, AttributeError) as error:
            hint = "" if self._client is not None else "; is it the URL of an ACME directory?"
            sentence = f"{host} does not answer as an ACME server does ({shown(error)}){hint}"
            raise CaUnavailable(sentence) from None


class _Empty(JSONDeSerializable):
    """``{}``: the answer to a challenge (RFC 8555 section 7.5.1)."""

    def to_partial_json(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_json(cls, jobj: Any) -> _Empty:
        return cls()


def certificate_id(certificate: x509.Certificate) -> str | None:
    """What RFC 9773 section 4.1 calls a certificate by; None where it has no authority key identifier."""
    try:
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except (x509.ExtensionNotFound, ValueError):
        return None
    if issuer is None:
        return None
    serial = certificate.serial_number
    return f"{_base64(issuer)}.{_base64(serial.to_bytes(serial.bit_length() // 8 + 1, 'big'))}"


def _request(names: Sequence[str], key_pem: str) -> x509.CertificateSigningRequest:
    key = load_pem_private_key(key_pem.encode("ascii"), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.add_extension(alternatives, critical=False).sign(key, hashes.SHA256())


def _base64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")
