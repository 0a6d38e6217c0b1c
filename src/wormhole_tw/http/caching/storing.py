"""What is stored of an answer, and for how long it is fresh (RFC 9111 §3, §4.2; RFC 9213; RFC 5861)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.http.caching.records import Refusal, Stored

if TYPE_CHECKING:
    from wormhole_tw.http.caching.policy import CachePolicy
    from wormhole_tw.http.caching.question import Question
    from wormhole_tw.http.events import ResponseHead

__all__ = ["freshen", "storable", "told"]


def storable(
    asked: Question, head: ResponseHead, policy: CachePolicy, requested: float, received: float, born: int = 0
) -> Stored | Refusal:
    """Whether an answer may be stored for others, and the record of it (RFC 9111 §3).

    The record's ``length`` is what ``Content-Length`` (``head.length``) says, or None; whoever stores the body puts
    the length of a body without one in when it has ended (``structs.replace(stored, length=…)``).  A 206 is stored as
    a span of its 200: ``first`` and ``length`` come of its ``Content-Range`` (Refusal ``partial`` where that has no
    complete length, or there is no strong entity tag), and its body has ``head.length`` octets.

    An answer to HEAD is not stored by itself (Refusal ``request``); see :func:`freshen`.

    :param asked: the visitor's request, with what the origin was really asked (:meth:`.Question.changed`), for Vary
    :param head: the origin's answer, as it came from its codec
    :param requested: epoch seconds when the request was sent
    :param received: epoch seconds when the head came
    :param born: the purge clock when the fetch began
    """
    raise NotImplementedError


def freshen(
    stored: Stored, head: ResponseHead, asked: Question, policy: CachePolicy, requested: float, received: float
) -> Stored | None:
    """A stored answer after the origin confirmed it by a 304, or answered HEAD for it (RFC 9111 §3.2, §4.3.4, §4.3.5).

    Its fields are replaced by those that came, but for those that say what the body is (``Content-Length``,
    ``Content-Encoding``, ``Content-Range``, ``Content-MD5``, ``ETag`` …), and age and freshness are worked out anew.

    :returns: None where the stored answer can no longer be used: the 304 or the answer to HEAD is of another
        representation (another validator or length), or it may not be stored any more.  It has to be removed then
    """
    raise NotImplementedError


def told(head: ResponseHead, policy: CachePolicy) -> ResponseHead:
    """An answer that comes from the origin, as the first visitor gets it: as it came, but for ``browser_ttl`` and the
    fields that the policy strips.  The same object where the policy changes nothing.

    Only for answers that are stored.
    """
    raise NotImplementedError
