"""Header fields as middleware sees them: a list of lines, names in any case, values as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wormhole_tw.http.events import Fields

__all__ = ["Headers"]

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
_VALUE = re.compile(r"[\t -~\x80-\xff]*")

_OWNED = {
    "connection": "it belongs to one connection, and each has its own",
    "content-length": "it follows from the body",
    "expect": "it follows from what the visitor waits for",
    "host": "the route and the backend say what name the service is asked for",
    "keep-alive": "it belongs to one connection, and each has its own",
    "proxy-connection": "it belongs to one connection, and each has its own",
    "te": "it belongs to one connection, and each has its own",
    "transfer-encoding": "it follows from the body",
    "upgrade": "it follows from what the visitor asked to switch to",
}
"""Names that nobody sets but the edge, and why."""


class Headers:
    """The fields of a message, in order; a name may stand there more than once.

    Names are the same in any case.  Values are text of Latin-1, as octets go over the wire.

    :param fields: pairs of name and value, or a mapping
    :raises ValueError: a name is no token, a value has an octet that no field may have, or the name is one that the
        edge alone sets (``Content-Length``, ``Connection``, ``Host`` …)
    """

    __slots__ = ("_lines",)

    def __init__(self, fields: Iterable[tuple[str, str]] | Mapping[str, str] = ()) -> None:
        self._lines: Fields = []
        for name, value in fields.items() if isinstance(fields, Mapping) else fields:
            self.add(name, value)

    @classmethod
    def of(cls, lines: Fields) -> Headers:
        """Fields that came over the wire, and were judged there; the list is copied."""
        headers = cls.__new__(cls)
        headers._lines = list(lines)
        return headers

    def copy(self) -> Headers:
        """The same fields; a change of one changes nothing in the other."""
        return Headers.of(self._lines)

    def lines(self) -> Fields:
        """The fields as they go over the wire: a new list."""
        return list(self._lines)

    # reading

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of a field; of several lines all of them with commas between (RFC 9110 §5.3).

        ``Cookie`` is joined by semicolons (RFC 9113 §8.2.3); of ``Set-Cookie``, which cannot be joined, the first line.
        """
        values = self.get_all(name)
        if not values:
            return default
        lower = name.lower()
        if lower == "set-cookie":
            return values[0]
        return ("; " if lower == "cookie" else ", ").join(values)

    def get_all(self, name: str) -> list[str]:
        """The values of all lines of that name, in order."""
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for line, value in self._lines if line.lower() == wanted]

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        wanted = name.lower().encode("latin-1", "replace")
        return any(line.lower() == wanted for line, _ in self._lines)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for name, value in self._lines:
            yield name.decode("latin-1"), value.decode("latin-1")

    def __len__(self) -> int:
        return len(self._lines)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return [(name.lower(), value) for name, value in self._lines] == [
            (name.lower(), value) for name, value in other._lines
        ]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        # a value may be somebody's password
        return f"<Headers {', '.join(name.decode('latin-1') for name, _ in self._lines)}>"

    # writing

    def __setitem__(self, name: str, value: str) -> None:
        """Put one line in the place of all lines of that name."""
        line = _checked(name, value)
        wanted = line[0].lower()
        lines: Fields = []
        placed = False
        for old in self._lines:
            if old[0].lower() != wanted:
                lines.append(old)
            elif not placed:
                placed = True
                lines.append(line)
        if not placed:
            lines.append(line)
        self._lines = lines

    def add(self, name: str, value: str) -> None:
        """Put one more line at the end."""
        self._lines.append(_checked(name, value))

    def extend(self, lines: Fields) -> None:
        """Put lines that came over the wire at the end."""
        self._lines += lines

    def setdefault(self, name: str, value: str) -> str:
        """The value that is there; where there is none, this one from now on."""
        found = self.get(name)
        if found is not None:
            return found
        self.add(name, value)
        return value

    def remove(self, *names: str) -> None:
        """Take away all lines of these names; those that are not there do no harm."""
        unwanted = {name.lower().encode("latin-1", "replace") for name in names}
        self._lines = [line for line in self._lines if line[0].lower() not in unwanted]

    def remove_alike(self, *names: str) -> None:
        """:meth:`remove`, and what is the same name to CGI, WSGI and their like: hyphens and underscores are one there.

        For fields that a service trusts, and a visitor must not make up.
        """
        unwanted = {name.lower().replace("_", "-").encode("latin-1", "replace") for name in names}
        self._lines = [line for line in self._lines if line[0].lower().replace(b"_", b"-") not in unwanted]

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self.remove(name)

    def add_to_list(self, name: str, *members: str) -> None:
        """Add members to a field that is a list (``Vary``, ``Cache-Control``), each where it is not there yet.

        ``Vary: *`` stays as it is: there is nothing to add to it.
        """
        present = [member.strip() for member in (self.get(name) or "").split(",") if member.strip()]
        if present == ["*"]:
            return
        lower = {member.lower() for member in present}
        missing = [member for member in members if member.lower() not in lower]
        if missing:
            self[name] = ", ".join(present + missing)


def _checked(name: str, value: str) -> tuple[bytes, bytes]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError("names and values of header fields are text (str)")
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is no name of a header field")
    why = _OWNED.get(name.lower())
    if why is not None:
        raise ValueError(f"{name} is not set by middleware: {why}")
    if _VALUE.fullmatch(value) is None:
        # the value may be somebody's secret
        raise ValueError(f"the value for {name} has a line end, a control character, or one that is not Latin-1")
    return name.encode("ascii"), value.strip(" \t").encode("latin-1")
