"""Small tables of attributes for what exists in thousands and has no ``__slots__``, because Twisted's class has none.

CPython keeps the names of a class's attributes once for all its instances, and the room for more of them shrinks with
each instance. A name that first comes late (``producer``, when thirty connections are there) then gives each instance a
table of its own, which has 800 octets where 200 do.
"""

from __future__ import annotations

from typing import Any

__all__ = ["know_attributes"]


def know_attributes(kind: type, *names: str) -> None:
    """Have CPython know these names of attributes of ``kind`` before the first instance is made.

    :param names: what instances will be given, in whatever order; a name too many costs each of them 8 octets
    """
    instance: Any = object.__new__(kind)
    for name in names:
        setattr(instance, name, None)
