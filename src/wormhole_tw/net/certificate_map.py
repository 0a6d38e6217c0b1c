"""Which certificate is served for which server name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from wormhole_tw.net.pem import KeyMaterial, normal_name

__all__ = ["CertificateMap", "Promised"]


class Promised:
    """A certificate that is made when somebody asks for one of its names.

    :param names: what it will be for, as they stand in :class:`KeyMaterial`
    :param make: makes it, and does not fail
    :ivar made: it, or None so long
    """

    __slots__ = ("_make", "made", "names")

    def __init__(self, names: tuple[str, ...], make: Callable[[], KeyMaterial]) -> None:
        self.names = names
        self.made: KeyMaterial | None = None
        self._make = make

    def material(self) -> KeyMaterial:
        """It, made now where it was not yet."""
        if self.made is None:
            self.made = self._make()
        return self.made


class CertificateMap:
    """Which certificate is served for which server name; immutable, but that what is promised is made.

    An exact name wins over a wildcard (one left-most label); among equals the earlier certificate wins, so that the
    order of the operator's file decides. No name, or an unknown one, gets the default.

    :param materials: the certificates, each for the names in its subjectAltName, or promises of some
    :param default: served where SNI is absent or unknown; the first of ``materials`` if not given, and nothing is
        missing
    :param missing: names that shall have a certificate and have none yet: who asks for one is refused, and is never
        shown another name's. None where there is no such thing
    :raises ValueError: no certificate at all
    """

    __slots__ = ("_every", "_exact", "_missing", "_wildcard", "default")

    def __init__(
        self,
        materials: Iterable[KeyMaterial | Promised],
        default: KeyMaterial | Promised | None = None,
        *,
        missing: Iterable[str] | None = None,
    ) -> None:
        every = tuple(materials)
        if default is None:
            if missing is None and not every:
                raise ValueError("a certificate map needs at least one certificate")
            default = every[0] if missing is None else None
        elif default not in every:
            every = (*every, default)
        self._every = every
        self.default = None if default is None else _made(default)
        self._missing = frozenset(missing or ())
        exact: dict[str, KeyMaterial | Promised] = {}
        wildcard: dict[str, KeyMaterial | Promised] = {}
        for material in every:
            for name in material.names:
                if name.startswith("*."):
                    wildcard.setdefault(name[2:], material)
                else:
                    exact.setdefault(name, material)
        self._exact: Mapping[str, KeyMaterial | Promised] = MappingProxyType(exact)
        self._wildcard: Mapping[str, KeyMaterial | Promised] = MappingProxyType(wildcard)

    @property
    def materials(self) -> tuple[KeyMaterial, ...]:
        """The certificates that there are by now."""
        return tuple(found for found in map(_there, self._every) if found is not None)

    def find(self, name: str) -> KeyMaterial | None:
        """The certificate whose names cover ``name``, or None."""
        found = self._found(name)
        return None if found is None else _made(found)

    def serves(self, name: str) -> KeyMaterial | None:
        """The certificate for a configured name, which may be a wildcard; None where there is none that is good, or
        none yet."""
        found = self._wildcard.get(name[2:]) if name.startswith("*.") else self._found(name)
        return None if found is None else _there(found)

    def _found(self, name: str) -> KeyMaterial | Promised | None:
        name = normal_name(name)
        found = self._exact.get(name)
        if found is None:
            label, _, parent = name.partition(".")
            found = self._wildcard.get(parent) if label and parent else None
        return found

    def choose(self, name: str | None) -> KeyMaterial | None:
        """The certificate to serve for a server name, or the default; None where the visitor is to be refused."""
        if not name:
            return self.default
        found = self.find(name)
        if found is None and not (self._missing and self._lacks(normal_name(name))):
            found = self.default
        return found

    def _lacks(self, name: str) -> bool:
        label, _, parent = name.partition(".")
        return name in self._missing or (bool(label and parent) and f"*.{parent}" in self._missing)


def _made(material: KeyMaterial | Promised) -> KeyMaterial:
    return material.material() if isinstance(material, Promised) else material


def _there(material: KeyMaterial | Promised) -> KeyMaterial | None:
    return material.made if isinstance(material, Promised) else material
