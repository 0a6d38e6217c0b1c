"""A/B tests: each visitor gets a variant by chance, and keeps it by a cookie."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random, SystemRandom

from wormhole_tw.middleware.messages import Next, Request, Response

__all__ = ["AbTest"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_MONTH = 30 * 24 * 3600

MAX_VARIANTS = 64
"""More are no test any more."""


class AbTest:
    """Assigns visitors to variants.

    The service gets the variant in a header; the visitor gets it in a cookie, once.  A visitor's own header of that
    name never reaches the service.  An answer that sets the cookie is for one visitor alone, and says so to caches;
    every answer says that it depends on the cookie (``Vary``).

    :param name: of the test: letters, digits, ``-`` and ``_``
    :param variants: name → weight: ``{old = 90, new = 10}``
    :param cookie: the cookie's name, by default ``ab-NAME``
    :param header: what the service gets, by default ``X-Ab-NAME``
    :param max_age: seconds for which the visitor keeps it, at most 400 days, which is where browsers cut
    :param random: where chance comes from
    :raises ValueError: one of them cannot be
    """

    def __init__(
        self,
        *,
        name: str,
        variants: Mapping[str, float],
        cookie: str | None = None,
        header: str | None = None,
        max_age: int = _MONTH,
        random: Random | None = None,
    ) -> None:
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise ValueError("name: 1 to 64 letters, digits, - and _")
        if not isinstance(variants, Mapping) or not 2 <= len(variants) <= MAX_VARIANTS:
            raise ValueError(f"variants: a table of 2 to {MAX_VARIANTS} names and their weights")
        for variant, weight in variants.items():
            if _NAME.fullmatch(variant) is None:
                raise ValueError(f"variants: {variant!r} is no name: 1 to 64 letters, digits, - and _")
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
                raise ValueError(f"variants: the weight of {variant} is a number from 0 on")
        if not sum(variants.values()):
            raise ValueError("variants: all weights are 0: nobody could get one")
        if isinstance(max_age, bool) or not isinstance(max_age, int) or not 0 < max_age <= 400 * 24 * 3600:
            raise ValueError("max_age: seconds, from 1 to 34560000 (400 days)")
        self._variants = list(variants)
        self._weights = list(variants.values())
        self._cookie = _token("cookie", cookie, f"ab-{name}")
        self._header = _token("header", header, f"X-Ab-{name}")
        self._max_age = max_age
        self._random = random or SystemRandom()

    async def __call__(self, request: Request, next: Next) -> Response:
        """Assign, ask the service, and tell the visitor."""
        kept = request.cookies.get(self._cookie)
        # a variant that has no weight (any more) is left by those who have it
        known = kept in self._variants and self._weights[self._variants.index(kept)] > 0
        variant = kept if known and kept is not None else self._random.choices(self._variants, self._weights)[0]
        request.headers.remove_alike(self._header)
        request.headers.add(self._header, variant)
        response = await next(request)
        response.headers.add_to_list("Vary", "Cookie")
        if not known:
            response.set_cookie(self._cookie, variant, max_age=self._max_age, secure=request.scheme == "https")
            _for_one_visitor(response)
        return response


def _token(what: str, given: str | None, default: str) -> str:
    if given is None:
        return default
    if not isinstance(given, str) or _NAME.fullmatch(given) is None:
        raise ValueError(f"{what}: 1 to 64 letters, digits, - and _")
    return given


def _for_one_visitor(response: Response) -> None:
    """A cookie that a shared cache gives to everybody would give everybody one variant."""
    directives = [part.strip() for part in (response.headers.get("Cache-Control") or "").split(",") if part.strip()]
    names = {directive.partition("=")[0].strip().lower() for directive in directives}
    if "no-store" in names or "private" in names:
        return
    kept = [part for part in directives if part.partition("=")[0].strip().lower() not in ("public", "s-maxage")]
    response.headers["Cache-Control"] = ", ".join([*kept, "private"])
