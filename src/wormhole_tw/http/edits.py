"""Changes that an operator makes to the fields of requests and answers, and which fields nobody may change.

Framing, the connection, the host name and who the visitor is are the edge's to say: a change of them would make of one
message two, or of a visitor somebody else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from wormhole_tw.http.forwarding import passes_always
from wormhole_tw.http.memo import remember

if TYPE_CHECKING:
    from wormhole_tw.http.added import Lines
    from wormhole_tw.http.events import Fields, RequestHead, ResponseHead

__all__ = ["FieldEdits", "edit_answer", "edit_request", "edit_trailers", "may_change"]

_NOBODYS = frozenset({b"date", b"trailer", b"via", b"x-request-id", b"x-wormhole-error"})
"""What the codecs do not own and is the edge's to write all the same: it names requests, and loops are found by Via."""

_OF_REQUESTS = frozenset({b"max-forwards"})
"""Of requests besides: what decides who answers."""


def may_change(name: bytes, *, of_request: bool) -> bool:
    """Whether a configuration may set, add or remove a field.

    A name with underscores is judged as the one with hyphens, for which services take it.
    """
    lower = name.lower()
    plain = lower.replace(b"_", b"-")
    if plain in _NOBODYS or (of_request and plain in _OF_REQUESTS):
        return False
    return passes_always(lower, of_request=of_request)


@dataclass(frozen=True, slots=True)
class FieldEdits:
    """What is taken out of the fields of a message, and what comes in.

    :ivar removed: names, lower-case: what is to be gone, and what is set anew
    :ivar lines: what is put behind the others
    """

    removed: frozenset[bytes] = frozenset()
    lines: Lines = ()
    _plain: frozenset[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_plain", frozenset(name.replace(b"_", b"-") for name in self.removed))

    def __bool__(self) -> bool:
        return bool(self.removed or self.lines)

    def then(self, other: FieldEdits) -> FieldEdits:
        """These, and then others, as one."""
        kept = tuple(line for line in self.lines if line[0].lower() not in other.removed)
        return FieldEdits(self.removed | other.removed, kept + other.lines)

    def of(self, fields: Fields) -> Fields:
        """The fields with the changes made; a new list."""
        removed = self.removed
        if not removed:
            return [*fields, *self.lines]
        return [*(line for line in fields if line[0].lower() not in removed), *self.lines]

    def of_request(self, fields: Fields) -> Fields:
        """The same for a request, where a visitor's ``X_User`` goes with ``X-User``: to CGI, WSGI and their like it is
        the same field, and may stand before what is put there."""
        return [*self.kept(fields), *self.lines]

    def kept(self, fields: Fields) -> Fields:
        """What of a visitor's fields is not taken out; a new list."""
        plain = self._plain
        return [line for line in fields if line[0].lower().replace(b"_", b"-") not in plain]


_answers: dict[tuple[int, int], tuple[Fields, FieldEdits, Fields]] = {}
_requests: dict[tuple[int, int], tuple[RequestHead, FieldEdits, RequestHead]] = {}


def edit_answer(head: ResponseHead, edits: FieldEdits) -> None:
    """Change the fields of an answer; a list that is shared stays as it is, and what comes of it is shared too."""
    fields = head.fields
    if not head.common:
        head.fields = edits.of(fields)
        return
    key = (id(fields), id(edits))
    known = _answers.get(key)
    if known is None or known[0] is not fields or known[1] is not edits:
        known = (fields, edits, edits.of(fields))
        remember(_answers, key, known)
    head.fields = known[2]


def edit_request(head: RequestHead, edits: FieldEdits) -> RequestHead:
    """A request with its fields changed: a new head, shared where the old one is."""
    if not head.common:
        return replace(head, fields=edits.of_request(head.fields))
    key = (id(head), id(edits))
    known = _requests.get(key)
    if known is None or known[0] is not head or known[1] is not edits:
        known = (head, edits, replace(head, fields=edits.of_request(head.fields)))
        remember(_requests, key, known)
    return known[2]


def edit_trailers(trailers: Fields, edits: FieldEdits | None) -> Fields:
    """Trailers, either way, without what was taken out of the head: some services and clients make one of both."""
    return trailers if edits is None else edits.kept(trailers)
