"""``preset``: where a well-known host of pages or applications serves a site, from the site's name there."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["PRESETS", "Preset"]

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_SEGMENT = r"[A-Za-z0-9._-]{1,100}"


class Preset(NamedTuple):
    """One of them.

    :ivar form: what ``site`` looks like, for errors
    :ivar pattern: the same for programs
    :ivar url: the URL of a site
    :ivar default_index: default of ``index``
    """

    form: str
    pattern: re.Pattern[str]
    url: Callable[[re.Match[str]], str]
    default_index: str = ""


def _pages(domain: str) -> Callable[[re.Match[str]], str]:
    def url(match: re.Match[str]) -> str:
        host = f"{match['owner'].lower()}.{domain}"
        path = match["path"] or ""
        # the repository of that very name is served at the root
        return f"https://{host}" if path.lower() in ("", f"/{host}") else f"https://{host}{path}"

    return url


def _one_name(domain: str) -> Callable[[re.Match[str]], str]:
    return lambda match: f"https://{match['name'].lower()}.{domain}"


def _bucket(match: re.Match[str]) -> str:
    region, bucket = match["region"], match["bucket"]
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    if "." in bucket:
        # the certificate is for one label before the region
        return f"https://s3.{region}.{suffix}/{bucket}"
    return f"https://{bucket}.s3.{region}.{suffix}"


PRESETS: dict[str, Preset] = {
    "github_pages": Preset(
        '"OWNER" or "OWNER/REPOSITORY"',
        re.compile(rf"(?P<owner>{_LABEL})(?P<path>/{_SEGMENT})?"),
        _pages("github.io"),
    ),
    "gitlab_pages": Preset(
        '"GROUP" or "GROUP/PROJECT" (with subgroups: "GROUP/SUBGROUP/PROJECT")',
        re.compile(rf"(?P<owner>{_LABEL})(?P<path>(?:/{_SEGMENT})+)?"),
        _pages("gitlab.io"),
    ),
    "ghost": Preset('the "NAME" of NAME.ghost.io', re.compile(rf"(?P<name>{_LABEL})"), _one_name("ghost.io")),
    "netlify": Preset('the "NAME" of NAME.netlify.app', re.compile(rf"(?P<name>{_LABEL})"), _one_name("netlify.app")),
    "heroku": Preset(
        'the "NAME" of NAME.herokuapp.com', re.compile(rf"(?P<name>{_LABEL})"), _one_name("herokuapp.com")
    ),
    "s3": Preset(
        '"REGION/BUCKET", as in "eu-west-1/my-pages"',
        re.compile(r"(?P<region>[a-z]{2}(?:-[a-z]+)+-[0-9]{1,2})/(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])"),
        _bucket,
        default_index="index.html",
    ),
}
"""By the name of the preset.  The host name there is Host and the name in TLS, for all of them serve by name."""
