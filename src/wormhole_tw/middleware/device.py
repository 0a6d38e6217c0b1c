"""What kind of device a visitor has, and what its address says, as header fields for the service."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from wormhole_tw.middleware.messages import Next, Request, Response

__all__ = ["DEVICES", "DeviceHeaders", "device_of", "network_of"]

DEVICES = ("bot", "tv", "tablet", "mobile", "desktop", "other")
"""The classes of devices."""

MAX_USER_AGENT = 1024
"""Characters of ``User-Agent`` that are looked at: the longest of browsers have 300."""

_BOT = re.compile(
    r"bot\b|bot[/;)]|crawl|spider|slurp|facebookexternalhit|embedly|headlesschrome|lighthouse|pingdom|uptimerobot"
    r"|mediapartners-google|feedfetcher|preview\b|monitoring|scrap",
    re.I,
)
_PROGRAM = re.compile(
    r"^(?:curl|wget|python|go-http-client|okhttp|java|libwww|httpie|axios|node|ruby|postman|treq)", re.I
)
_TV = re.compile(
    r"smart-?tv|hbbtv|appletv|apple tv|googletv|android tv|bravia|web0s|webos.*tv|tizen.*tv|roku|crkey", re.I
)
_TABLET = re.compile(r"ipad|tablet|playbook|silk(?!.*mobile)|kindle|android(?!.*mobile)", re.I)
_MOBILE = re.compile(r"mobi|iphone|ipod|windows phone|blackberry|bb10|opera mini|android", re.I)
_DESKTOP = re.compile(r"windows nt|macintosh|x11|cros |linux x86_64|linux i686", re.I)

_PREFIX = re.compile(r"[A-Za-z0-9-]{1,64}")

_HINT_MOBILE = "Sec-CH-UA-Mobile"


def device_of(user_agent: str | None, mobile_hint: str | None = None) -> str:
    """The class of a device, one of :data:`DEVICES`.

    :param user_agent: the ``User-Agent``; programs that are no browser, and none at all, are ``other``
    :param mobile_hint: ``Sec-CH-UA-Mobile`` (``?1`` or ``?0``), which Chromium's browsers send and mean
    """
    text = (user_agent or "")[:MAX_USER_AGENT]
    if _BOT.search(text):
        return "bot"
    if not text or _PROGRAM.match(text):
        return "other"
    if _TV.search(text):
        return "tv"
    if mobile_hint == "?1":
        return "mobile"
    if _TABLET.search(text):
        return "tablet"
    if _MOBILE.search(text):
        return "mobile"
    return "desktop" if _DESKTOP.search(text) else "other"


def network_of(address: str) -> tuple[str, str]:
    """What an address says: its family (``ipv4``, ``ipv6``, ``none``) and the kind of its network.

    The kinds: ``public``, ``private`` (RFC 1918, RFC 4193), ``shared`` (RFC 6598), ``loopback``, ``link-local``, and
    ``special`` for what no visitor should have; ``none`` for who has no address.
    """
    try:
        found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return "none", "none"
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    family = f"ipv{found.version}"
    if found.is_loopback:
        return family, "loopback"
    if found.is_link_local:
        return family, "link-local"
    if isinstance(found, IPv4Address) and int(found) >> 22 == int(IPv4Address("100.64.0.0")) >> 22:
        return family, "shared"
    if found.is_multicast or found.is_unspecified or found.is_reserved:
        return family, "special"
    if found.is_global:
        return family, "public"
    return family, "private" if found.is_private and not _is_documentation(found) else "special"


def _is_documentation(address: IPv4Address | IPv6Address) -> bool:
    """Private to Python, and nobody's network."""
    text = address.exploded
    return text.startswith(("192.0.2.", "198.51.100.", "203.0.113.", "2001:0db8:", "192.0.0.", "198.18.", "198.19."))


class DeviceHeaders:
    """Tells the service what its visitor has and where it comes from.

    ``X-Visitor-Device`` is one of :data:`DEVICES`; ``X-Visitor-Address`` the address, ``X-Visitor-Family`` ``ipv4`` or
    ``ipv6``, ``X-Visitor-Network`` what :func:`network_of` says.  A visitor's own fields of these names never reach the
    service.  Where the service says that its answer depends on the device (``Vary: X-Visitor-Device``), visitors and
    caches are told what that depends on.

    :param prefix: what the names begin with
    :param device: send the class of the device
    :param address: send the three of the address
    :raises ValueError: the prefix is no part of a name
    """

    def __init__(self, *, prefix: str = "X-Visitor-", device: bool = True, address: bool = True) -> None:
        if not isinstance(prefix, str) or _PREFIX.fullmatch(prefix) is None:
            raise ValueError("prefix: 1 to 64 letters, digits and hyphens")
        for what, value in (("device", device), ("address", address)):
            if not isinstance(value, bool):
                raise ValueError(f"{what}: true or false")
        self._device = f"{prefix}Device"
        self._address = f"{prefix}Address"
        self._family = f"{prefix}Family"
        self._network = f"{prefix}Network"
        self._with_device = device
        self._with_address = address

    async def __call__(self, request: Request, next: Next) -> Response:
        """Add the fields."""
        headers = request.headers
        headers.remove_alike(self._device, self._address, self._family, self._network)
        if self._with_device:
            headers.add(self._device, device_of(headers.get("User-Agent"), headers.get(_HINT_MOBILE)))
        if self._with_address:
            family, network = network_of(request.address)
            headers.add(self._address, request.address or "none")
            headers.add(self._family, family)
            headers.add(self._network, network)
        response = await next(request)
        self._explain(response)
        return response

    def _explain(self, response: Response) -> None:
        vary = response.headers.get("Vary")
        if vary is None or self._device.lower() not in vary.lower():
            return
        members = [member.strip() for member in vary.split(",")]
        response.headers["Vary"] = ", ".join(
            member for member in members if member and member.lower() != self._device.lower()
        )
        response.headers.add_to_list("Vary", "User-Agent", _HINT_MOBILE)
