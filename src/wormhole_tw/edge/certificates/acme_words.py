"""What a CA, its server and the network say, as one sentence for the operator."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING
from urllib.request import getproxies

if TYPE_CHECKING:
    from acme import messages

__all__ = ["of_network", "of_problem", "of_proxy", "of_tls", "shown"]

MAX_DETAIL = 500
"""Characters of what the CA says, in our sentences."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\s]+")

_WRONG_TIME = re.compile(r"certificate (?:has expired|is not yet valid)")


def of_problem(error: messages.Error) -> str:
    """The CA's own words, in one line, with those for each name behind."""
    words = [shown(error.detail or error.title or error.typ)]
    for sub in error.subproblems or ():
        name = f"{sub.identifier.value}: " if sub.identifier is not None else ""
        words.append(name + shown(sub.detail or sub.title or sub.typ))
    code = f" ({error.code})" if error.code else ""
    return "; ".join(words)[:MAX_DETAIL] + code


def of_tls(text: str) -> str:
    if found := _WRONG_TIME.search(text):
        now = datetime.datetime.now(datetime.UTC)
        return f"the server's {found[0]}, or this machine's clock is wrong: it says {now:%Y-%m-%d %H:%M} UTC"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        reason = re.search(r"certificate verify failed: ([^(]*)", text)
        said = reason[1].strip(" .") if reason is not None else "its certificate is not trusted"
        return f"the CA's own server is not trusted: {said}; a CA of your own needs directory_ca_file"
    return f"no TLS with the CA's server: {shown(text)}"


def of_network(error: BaseException) -> str:
    """The innermost reason: requests and urllib3 put theirs around it."""
    text = str(error)
    if "NameResolutionError" in text or "getaddrinfo failed" in text:
        return "its name is not found in DNS"
    if "refused" in text:
        return "the connection is refused"
    found = re.search(r"\[Errno -?\d+\] ([^'\")]+)", text)
    return found[1].lower() if found is not None else shown(text)


def of_proxy(error: BaseException) -> str:
    """What is wrong with the proxy of the environment, or with a URL; that of a proxy may hold a password."""
    if isinstance(error, ValueError):
        if not getproxies():
            return of_network(error)
        return "HTTPS_PROXY or ALL_PROXY of the environment is not the URL of an HTTP proxy"
    text = str(error)
    if found := re.search(r"Tunnel connection failed: (\d+)", text):
        return f"the proxy of the environment (HTTPS_PROXY) answers {found[1]}"
    return f"the proxy of the environment (HTTPS_PROXY): {of_network(error)}"


def shown(value: object) -> str:
    """Somebody else's words: one line, and not too long."""
    return _CONTROL.sub(" ", str(value)).strip()[:MAX_DETAIL]
