"""What ``mode = "acme"`` needs besides its configuration: a library, and the files that are named there."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import TYPE_CHECKING

from wormhole_tw.errors import ConfigError
from wormhole_tw.net.pem import load_ca_certificates, read_file

if TYPE_CHECKING:
    from wormhole_tw.control.acme import AcmeConfig

__all__ = ["check_needs", "read_hmac_key"]

_LIBRARIES = ("acme", "josepy")


def check_needs(config: AcmeConfig, source: str) -> None:
    """See to it that all is there, before anything is started.

    :raises ConfigError: a library is not installed; a file is missing, or is not what it should be
    """
    for library in _LIBRARIES:
        if find_spec(library) is None:
            reason = f"mode = \"acme\" needs the library {library}: pip install 'wormhole-tw[acme]'"
            raise ConfigError(source, "$.tls.mode", reason)
    if config.directory_ca_file is not None:
        load_ca_certificates(config.directory_ca_file, source=source, key="$.tls.directory_ca_file")
    read_hmac_key(config, source)


def read_hmac_key(config: AcmeConfig, source: str) -> str:
    """The key of the external account, base64url without padding; empty where there is none.

    :raises ConfigError: the file cannot be read, or holds no such key; the error repeats nothing of it
    """
    if config.external_account is None:
        return ""
    where = "$.tls.external_account.hmac_key_file"
    text = read_file(config.external_account.hmac_key_file, source=source, key=where)
    key = text.decode("ascii", "replace").strip().rstrip("=")
    # some CAs show it in plain base64
    key = key.replace("+", "-").replace("/", "_")
    if re.fullmatch(r"[A-Za-z0-9_-]{4,}", key) is None or len(key) % 4 == 1:
        raise ConfigError(source, where, "the file holds no key in base64url, as the CA gives it")
    return key
