"""What the cache would do for a request, as ``wormhole-tw route explain`` says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.control.access import BasicRule, SignInRule, TokenRule
from wormhole_tw.http.caching import may_ask, question
from wormhole_tw.http.caching.keying import brings_cookie
from wormhole_tw.http.events import RequestHead

if TYPE_CHECKING:
    from wormhole_tw.control.caching import CacheSettings
    from wormhole_tw.control.model import Route
    from wormhole_tw.http.asked import Asked
    from wormhole_tw.http.caching.policy import CachePolicy
    from wormhole_tw.http.events import Fields

__all__ = ["cache_lines", "fetched"]


def fetched(route: Route, target: str) -> str:
    """What of a target the service is asked for, where the cache takes the request."""
    ignored = None if route.cache is None else route.cache.ignore_query
    if ignored is None:
        return target
    path, mark, query = target.partition("?")
    left = ignored.of(query.encode() if mark else None)
    return path if left is None else f"{path}?{left.decode()}"


def cache_lines(route: Route, asked: Asked, fields: Fields) -> tuple[bool, list[str]]:
    """Whether the cache takes a request, and what there is to say of it; nothing where the route has none.

    :param fields: of the request
    """
    settings = route.cache
    if settings is None:
        return False, []
    why_not = _why_not(settings, asked, fields)
    if why_not:
        return False, [f"cache: passed by, {why_not}"]
    target = asked.path if asked.query is None else f"{asked.path}?{asked.query.decode()}"
    by = [f"cookie {name.decode()}" for name in settings.cookies]
    by += [f"header {name.decode()}" for name in settings.headers]
    key = f"cache: under {asked.scheme}://{asked.host}{fetched(route, target)}"
    lines = [key + (f", by {', '.join(by)}" if by else "") + ", and by what the answer names in Vary"]
    lines += [f"cache: {line}" for line in _rules(settings.policy)]
    known = any(isinstance(gate, BasicRule | TokenRule | SignInRule) for gate in route.gates or ())
    if question(_head(asked, fields), personal=known).personal:
        lines.append("cache: kept only where the answer says that it may be, for it is known who asks")
    return True, lines


def _why_not(settings: CacheSettings, asked: Asked, fields: Fields) -> str:
    if asked.method not in (b"GET", b"HEAD"):
        return f"for {asked.method.decode()} is not kept; what is kept under its URL is void if it succeeds"
    if settings.bypass_cookies is not None and brings_cookie(fields, settings.bypass_cookies):
        return "for a cookie of bypass_cookies"
    head = _head(asked, fields)
    return "" if may_ask(head, question(head), settings.policy) else "for what its header fields ask for"


def _head(asked: Asked, fields: Fields) -> RequestHead:
    return RequestHead(asked.method, asked.path.encode(), asked.host.encode(), (1, 1), fields)


def _rules(policy: CachePolicy) -> list[str]:
    """How long answers are fresh, in a few words."""
    if policy.override_ttl is not None:
        fresh = f"fresh for {policy.override_ttl} s, whatever the answer says"
    elif policy.ttl is not None:
        fresh = f"fresh as long as the answer says, {policy.ttl} s where it says nothing"
    else:
        fresh = "fresh as long as the answer says"
    if policy.max_ttl is not None:
        fresh += f", at most {policy.max_ttl} s"
    lines = [fresh]
    stale = [
        f"{seconds} s {when}"
        for seconds, when in (
            (policy.stale_while_revalidate, "while it is asked for again"),
            (policy.stale_if_error, "while the service fails"),
        )
        if seconds
    ]
    if stale:
        lines.append(f"served stale for {' and '.join(stale)}, where the answer says nothing else")
    if policy.strip:
        lines.append(f"kept without {', '.join(sorted(name.decode() for name in policy.strip))}")
    return lines
