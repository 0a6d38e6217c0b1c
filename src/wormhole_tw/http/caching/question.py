"""A request as the cache looks at it: read once, and handed to every rule.

A head that comes again octet for octet (``head.common``) is read once for all of them (:mod:`wormhole_tw.http.memo`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.http.caching.directives import delta_seconds, read_directives
from wormhole_tw.http.events import Framing
from wormhole_tw.http.memo import remember

if TYPE_CHECKING:
    from wormhole_tw.http.caching.policy import CachePolicy
    from wormhole_tw.http.events import RequestHead

__all__ = ["Question", "may_ask", "question"]

_PRECONDITIONS = (b"if-match", b"if-unmodified-since")
_CONDITIONS = (b"range", b"if-none-match", b"if-modified-since", b"if-range", *_PRECONDITIONS)
_NOTHING: dict[bytes, bytes | None] = {}


class Question:
    """A request, read for the cache.

    :ivar fields: lower-case name → value; the lines of one name joined by ``, `` (``cookie``: ``; ``), RFC 9110 §5.3
    :ivar head: the method is HEAD
    :ivar directives: of its Cache-Control: lower-case name → value, None for none
    :ivar plain: neither directives nor conditions nor a range: the common case, for which nothing else is looked at
    :ivar whole: neither conditions nor a range: all of the answer is asked for
    :ivar personal: it has ``Authorization``, or an access rule knows who asks (RFC 9111 §3.5 applies)
    """

    __slots__ = ("directives", "fields", "head", "personal", "plain", "whole")

    def __init__(self, fields: dict[bytes, bytes], *, head: bool, personal: bool) -> None:
        self.fields = fields
        self.head = head
        self.personal = personal or b"authorization" in fields
        control = fields.get(b"cache-control")
        self.directives = _NOTHING if control is None else read_directives((control,))
        self.whole = not any(name in fields for name in _CONDITIONS)
        self.plain = self.whole and not self.directives

    def only_if_cached(self, policy: CachePolicy) -> bool:
        """The visitor wants an answer from the cache or a 504 (RFC 9111 §5.2.1.7)."""
        return b"only-if-cached" in self.directives and b"only-if-cached" not in policy.ignore_request

    def delta(self, name: bytes) -> int | None:
        """The seconds of a directive; None where it is not there or is no number (then it is as good as not there)."""
        value = self.directives.get(name)
        return None if value is None else delta_seconds(value)


_questions: dict[tuple[int, bool], tuple[RequestHead, Question]] = {}


def question(head: RequestHead, *, personal: bool = False) -> Question:
    """Read a request.

    :param head: the request as the visitor sent it
    :param personal: the edge knows who asks though the request does not say so by ``Authorization`` (an access rule
        took that away, or goes by a session, a certificate …)
    """
    if not head.common:
        return _read(head, personal)
    key = (id(head), personal)
    known = _questions.get(key)
    if known is not None and known[0] is head:
        return known[1]
    made = _read(head, personal)
    remember(_questions, key, (head, made))
    return made


def _read(head: RequestHead, personal: bool) -> Question:
    fields: dict[bytes, bytes] = {}
    for name, value in head.fields:
        lower = name.lower()
        if lower in fields:
            fields[lower] += (b"; " if lower == b"cookie" else b", ") + value
        else:
            fields[lower] = value
    return Question(fields, head=head.method == b"HEAD", personal=personal)


def may_ask(head: RequestHead, asked: Question, policy: CachePolicy) -> bool:
    """Whether the cache has any part in this request; if not, it passes as if there were none.

    It has in GET and HEAD only, without a body and without an upgrade; not in a precondition that only an origin can
    judge (``If-Match``, ``If-Unmodified-Since``: RFC 9110 §13.1.1, §13.1.4), nor where the visitor says ``no-store``
    (RFC 9111 §5.2.1.5), unless the policy ignores that.  A POST is never answered from the cache nor stored, even where
    its answer says how (RFC 9110 §9.3.3 allows it): who asks for that is rarer than who does not expect it.
    """
    if head.method != b"GET" and head.method != b"HEAD":
        return False
    if head.framing is not Framing.NONE or head.upgrade is not None or head.expect_continue:
        return False
    if asked.plain:
        return True
    if b"no-store" in asked.directives and b"no-store" not in policy.ignore_request:
        return False
    return not any(name in asked.fields for name in _PRECONDITIONS)
