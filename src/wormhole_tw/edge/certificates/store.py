"""What ``mode = "acme"`` keeps in the state folder, so that an end at any moment loses nothing.

::

    state/acme/acme-v02.api.letsencrypt.org-3f1c…/     one folder a CA, named for its directory's URL; 0700
        account.key                  the account's private key
        account.json                 the account's URL at the CA
        orders/ID.json               an order under way: its names, its private key, its URL
        certificates/ID.pem          a certificate: its private key, the certificate, its chain
        status.json                  what went wrong with which name, and when it is tried again

Every file is whole: it is written beside, brought to the disk (fsync), renamed, and the folder brought to the disk.  A
key is in the same file as what it is for, so that there is never one without the other.  All are 0600.

Everything here blocks; a running edge calls it in a thread, reading at its start apart.
"""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from twisted.logger import Logger

from wormhole_tw.errors import ConfigError
from wormhole_tw.net.pem import KeyMaterial, load_key_material
from wormhole_tw.structs import MsgspecError, convert

__all__ = [
    "AccountRecord",
    "CaRecord",
    "CertificateStore",
    "NameRecord",
    "OrderRecord",
    "Renewal",
    "StatusRecord",
    "Stored",
    "new_key_pem",
]

log = Logger()

T = TypeVar("T")

_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """An account at the CA.

    :ivar uri: its URL
    :ivar email: what the CA was told
    :ivar created: seconds since 1970
    """

    uri: str
    email: str
    created: float


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """An order that is under way.

    :ivar id: of this record, and of the certificate that becomes of it
    :ivar key: the certificate's private key, PEM
    :ivar uri: its URL at the CA; empty before the CA has heard of it
    :ivar account: whose it is, a URL
    :ivar shown: what may be there to prove its names and has to be taken away: (kind, name, values) of
        :meth:`.IChallengeSolver.present`
    """

    id: str
    names: tuple[str, ...]
    created: float
    key: str = field(repr=False)
    uri: str = ""
    account: str = ""
    shown: tuple[tuple[str, str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class NameRecord:
    """What has become of a name.

    :ivar failures: in a row
    :ivar error: the last one's sentence; empty after a success
    :ivar error_at: seconds since 1970
    :ivar next_try: not before, seconds since 1970
    :ivar issued_at: when a certificate was last had, seconds since 1970
    """

    failures: int = 0
    error: str = ""
    error_at: float = 0.0
    next_try: float = 0.0
    issued_at: float = 0.0


@dataclass(frozen=True, slots=True)
class CaRecord:
    """Whether the CA can be had; the fields are those of :class:`NameRecord`."""

    failures: int = 0
    error: str = ""
    error_at: float = 0.0
    next_try: float = 0.0


@dataclass(frozen=True, slots=True)
class Renewal:
    """What the CA said of a certificate's renewal (RFC 9773).

    :ivar at: when to renew, seconds since 1970; 0 where it does not say
    :ivar ask_at: when to ask again
    """

    at: float = 0.0
    ask_at: float = 0.0


@dataclass(slots=True)
class StatusRecord:
    """Everything of ``status.json``.

    :ivar renewals: by the certificate's id
    """

    ca: CaRecord = field(default_factory=CaRecord)
    names: dict[str, NameRecord] = field(default_factory=dict)
    renewals: dict[str, Renewal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A certificate in the state folder."""

    id: str
    material: KeyMaterial

    @property
    def begins(self) -> float:
        """The beginning of its validity, seconds since 1970."""
        return self.material.certificate.not_valid_before_utc.timestamp()

    @property
    def ends(self) -> float:
        """The end of its validity, seconds since 1970."""
        return self.material.not_after.timestamp()


class CertificateStore:
    """The folder of one CA.

    :param state: the edge's state folder
    :param directory: the CA's directory URL
    :param source: what named the state folder, for errors
    """

    def __init__(self, state: Path, directory: str, *, source: str) -> None:
        host = re.sub(r"[^a-z0-9.-]", "-", (urlsplit(directory).hostname or "ca").lower())
        digest = hashlib.sha256(directory.encode()).hexdigest()[:8]
        self.folder = state / "acme" / f"{host}-{digest}"
        self._source = source
        self._lock = -1
        self._seen: list[Path] = []

    # One edge at a time.

    def take(self) -> bool:
        """Make the folder this process's; False where another one has it.

        :raises ConfigError: the folder cannot be written
        """
        if self._lock >= 0:
            return True
        with self._writing(self.folder):
            for folder in (self.folder / "orders", self.folder / "certificates"):
                for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
                    missing.mkdir(mode=0o700, exist_ok=True)
                    _sync_folder(missing.parent)
            descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            reason = f"{self.folder / '.lock'} cannot be locked: {error.strerror or error}"
            raise ConfigError(self._source, "", reason) from None
        self._lock = descriptor
        self._sweep()
        return True

    def release(self) -> None:
        """Let another process have it; safe to call twice."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _sweep(self) -> None:
        """Take away what an earlier process had only begun to write; there are keys in it."""
        for folder in (self.folder, self.folder / "orders", self.folder / "certificates"):
            for draft in folder.glob(".*.new"):
                self._remove(draft)

    # Reading.

    @property
    def changed(self) -> bool:
        """Whether a certificate has come or gone since they were read last.

        :raises ConfigError: the folder cannot be read
        """
        return self._listed("certificates", ".pem") != self._seen

    def certificates(self) -> list[Stored]:
        """Every certificate that is whole, the newest first; a damaged file is left where it is, and said in the log.

        :raises ConfigError: the folder cannot be read
        """
        self._seen = self._listed("certificates", ".pem")
        return self._loaded(self._seen)

    def others(self) -> list[Stored]:
        """Those of other CAs, which were asked before ``directory`` was changed; the newest first.

        :raises ConfigError: a folder cannot be read
        """
        folders = (folder for folder in self.folder.parent.glob("*/certificates") if folder.parent != self.folder)
        return self._loaded([path for folder in folders for path in self._listed(folder, ".pem")])

    def _loaded(self, paths: Iterable[Path]) -> list[Stored]:
        found = []
        for path in paths:
            try:
                material = load_key_material(path, path, source=self._source, quiet=True)
            except ConfigError as error:
                log.error("a certificate is left out: {error}", error=error)
                continue
            found.append(Stored(path.stem, material))
        found.sort(key=lambda stored: (-stored.begins, stored.id))
        return found

    def orders(self) -> list[OrderRecord]:
        """The orders under way, the oldest first.

        :raises ConfigError: the folder cannot be read
        """
        found = []
        for path in self._listed("orders", ".json"):
            order = self._read(path, OrderRecord)
            if order is None:
                continue
            try:
                load_pem_private_key(order.key.encode("ascii"), password=None)
            except (ValueError, TypeError):  # nothing can become of it, and it would be tried for ever
                log.error("{path} is damaged, and left out", path=path)
                continue
            found.append(order)
        return sorted(found, key=lambda order: order.created)

    def account(self) -> AccountRecord | None:
        """The account, where there is one."""
        return self._read(self.folder / "account.json", AccountRecord)

    def status(self) -> StatusRecord:
        """What is known of names, nothing where there is none."""
        return self._read(self.folder / "status.json", StatusRecord) or StatusRecord()

    # Writing.

    def account_key(self) -> ec.EllipticCurvePrivateKey:
        """The account's private key, made where there is none.

        :raises ConfigError: it is damaged, or cannot be read or written
        """
        path = self.folder / "account.key"
        try:
            pem = path.read_bytes()
        except FileNotFoundError:
            # An account that is still written down was another key's.
            self._remove(self.folder / "account.json")
            pem = new_key_pem().encode()
            self._write(path, pem)
        except OSError as error:
            raise ConfigError(self._source, "", f"{path} cannot be read: {error.strerror or error}") from None
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            reason = f"{path} is damaged; move it away to have a new account made"
            raise ConfigError(self._source, "", reason)
        return key

    def write_account(self, account: AccountRecord) -> None:
        """:raises ConfigError: it cannot be written"""
        self._write(self.folder / "account.json", _json(account))

    def forget_account(self, key: bool) -> None:
        """The account is gone at the CA; with ``key`` its key is put aside, so that another one is made.

        :raises ConfigError: it cannot be written
        """
        with self._writing(self.folder):
            if key:
                # First: without its account the key would be tried again, and an account without its key is forgotten.
                now = datetime.datetime.now(datetime.UTC)
                os.replace(self.folder / "account.key", self.folder / f"account.key.closed-{now:%Y%m%dT%H%M%S}")
                _sync_folder(self.folder)
            (self.folder / "account.json").unlink(missing_ok=True)
            _sync_folder(self.folder)

    def write_order(self, order: OrderRecord) -> None:
        """:raises ConfigError: it cannot be written"""
        self._write(self.folder / "orders" / f"{order.id}.json", _json(order))

    def drop_order(self, order: OrderRecord) -> None:
        """:raises ConfigError: it cannot be written"""
        self._remove(self.folder / "orders" / f"{order.id}.json")

    def write_certificate(self, order: OrderRecord, chain_pem: str) -> Stored:
        """An order has become a certificate.

        :param chain_pem: the certificate and its chain, judged by the caller
        :raises ConfigError: it cannot be written
        """
        path = self.folder / "certificates" / f"{order.id}.pem"
        self._write(path, f"{order.key.rstrip()}\n{chain_pem.strip()}\n".encode())
        return Stored(order.id, load_key_material(path, path, source=self._source, quiet=True))

    def drop_certificate(self, stored: Stored) -> None:
        """:raises ConfigError: it cannot be written"""
        self._remove(self.folder / "certificates" / f"{stored.id}.pem")

    def write_status(self, status: StatusRecord) -> None:
        """:raises ConfigError: it cannot be written"""
        self._write(self.folder / "status.json", _json(status))

    # Within.

    def _listed(self, folder: str | Path, suffix: str) -> list[Path]:
        try:
            paths = sorted((self.folder / folder).iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            reason = f"the folder {self.folder / folder} cannot be read: {error.strerror or error}"
            raise ConfigError(self._source, "", reason) from None
        return [path for path in paths if path.suffix == suffix and _ID.fullmatch(path.stem)]

    def _read(self, path: Path, kind: type[T]) -> T | None:
        try:
            return convert(json.loads(path.read_bytes()), kind)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(self._source, "", f"{path} cannot be read: {error.strerror or error}") from None
        except (ValueError, MsgspecError):  # no JSON, or not that of such a record
            log.error("{path} is damaged, and left out", path=path)
            return None

    def _write(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f".{path.name}.new")
        with self._writing(path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(temporary, flags, 0o600)
            with open(descriptor, "wb") as stream:
                os.fchmod(stream.fileno(), 0o600)
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)

    def _remove(self, path: Path) -> None:
        with self._writing(path):
            path.unlink(missing_ok=True)
            _sync_folder(path.parent)

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            shown = error.filename or path
            raise ConfigError(self._source, "", f"{shown} cannot be written: {error.strerror or error}") from None


def new_key_pem() -> str:
    """A new private key, ECDSA P-256: what every client takes, small, and cheap for the server."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def _json(value: Any) -> bytes:
    return json.dumps(asdict(value), indent=1).encode()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
