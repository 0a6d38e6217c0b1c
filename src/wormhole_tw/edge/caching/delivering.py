"""What those who wait for a fetch get of its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wormhole_tw.http.caching import begun, serve, told, wanted

if TYPE_CHECKING:
    from wormhole_tw.edge.caching.fetch import Fetch
    from wormhole_tw.edge.caching.reader import Reader
    from wormhole_tw.http.events import ResponseHead

__all__ = ["begin_for", "give_whole"]


def begin_for(fetch: Fetch, reader: Reader) -> None:
    """The answer has begun, and is stored: begin with it for one who waits."""
    stored = fetch.stored
    assert stored is not None
    question = reader.asked.question
    now = reader.caching.cache.wall()
    own = _own_head(fetch, reader)
    size = None if stored.length is None else stored.length - stored.first
    if size is None and wanted(question, stored, now) == (0, 0):
        size = 0
    answer = None if size is None or own is not None else serve(question, stored, size, now)
    if own is None and answer is None and size is not None:
        reader.alone("partial")
        return
    reader.say("collapsed" if reader.collapsed else "miss", reader.line)
    if own is not None:
        reader.begin(own, 0, None)
    elif answer is not None:
        reader.begin(answer.head, answer.start, answer.end)
    else:
        # nobody knows how long it will be: the whole, whatever part was asked for
        reader.begin(begun(stored, now), 0, None)


def give_whole(fetch: Fetch, reader: Reader, body: bytes) -> None:
    """The answer is there, all of it, and stored."""
    stored = fetch.stored
    assert stored is not None
    own = _own_head(fetch, reader)
    answer = None
    if own is None:
        answer = serve(reader.asked.question, stored, len(body), reader.caching.cache.wall())
        if answer is None:
            reader.alone("partial")
            return
    reader.say("collapsed" if reader.collapsed else "miss", reader.line)
    if own is not None:
        reader.give_whole(own, body)
    elif answer is not None:
        reader.give_whole(answer.head, body[answer.start : answer.end])


def _own_head(fetch: Fetch, reader: Reader) -> ResponseHead | None:
    """The head as it came, for the one that the fetch began for: there may be more in it than others get."""
    question, head = reader.asked.question, fetch.head
    assert head is not None
    if reader is fetch.first and fetch.after is None and not question.head and (question.whole or not fetch.shared):
        return told(head, reader.caching.settings.policy)
    return None
