"""Which certificate is served for which server name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from wormhole_tw.net.pem import KeyMaterial, normal_name

__all__ = ["CertificateMap"]


class CertificateMap:
    """Which certificate is served for which server name; immutable.

    An exact name wins over a wildcard (one left-most label); among equals the earlier certificate wins, so that the
    order of the operator's file decides. No name, or an unknown one, gets the default.

    :param materials: the certificates, each for the names in its subjectAltName
    :param default: served where SNI is absent or unknown; the first of ``materials`` if not given, and nothing is
        missing
    :param missing: names that shall have a certificate and have none yet: who asks for one is refused, and is never
        shown another name's. None where there is no such thing
    :raises ValueError: no certificate at all
    """

    __slots__ = ("_exact", "_missing", "_wildcard", "default", "materials")

    def __init__(
        self,
        materials: Iterable[KeyMaterial],
        default: KeyMaterial | None = None,
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
        self.materials = every
        self.default = default
        self._missing = frozenset(missing or ())
        exact: dict[str, KeyMaterial] = {}
        wildcard: dict[str, KeyMaterial] = {}
        for material in every:
            for name in material.names:
                if name.startswith("*."):
                    wildcard.setdefault(name[2:], material)
                else:
                    exact.setdefault(name, material)
        self._exact: Mapping[str, KeyMaterial] = MappingProxyType(exact)
        self._wildcard: Mapping[str, KeyMaterial] = MappingProxyType(wildcard)

    def find(self, name: str) -> KeyMaterial | None:
        """The certificate whose names cover ``name``, or None."""
        name = normal_name(name)
        found = self._exact.get(name)
        if found is None:
            label, _, parent = name.partition(".")
            found = self._wildcard.get(parent) if label and parent else None
        return found

    def serves(self, name: str) -> KeyMaterial | None:
        """The certificate for a configured name, which may be a wildcard; None where there is none that is good."""
        if name.startswith("*."):
            return self._wildcard.get(name[2:])
        return self.find(name)

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
