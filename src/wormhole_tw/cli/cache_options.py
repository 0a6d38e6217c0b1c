"""The command line of ``wormhole-tw cache``."""

from __future__ import annotations

import argparse

__all__ = ["add_cache"]

_PURGE = """\
Throw away what an edge keeps of answers: the next request goes to the service. It holds from this moment on for every
process of the edge, and after a restart or a crash. Say what:

  --url https://shop.example.com/list?page=2    this URL alone (of parameters that a route ignores, none counts)
  --prefix https://shop.example.com/images/     every URL that begins so, with every query
  --tag product-17                              every answer that its service gave this tag (Surrogate-Key)
  --site shop                                   all of a site

--url, --prefix and --tag may be given several times. With --site, --tag is of that site, and --url and --prefix may be
paths, which then hold for each of its host names. http and https are the same here. Where no edge runs, the purge is
written down for the next one, if there is a cache on disk.
"""


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Say what follows ``wormhole-tw cache``."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    purge = commands.add_parser(
        "purge",
        help="throw answers away, by URL, prefix, tag or site",
        description=_PURGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="status 0: it is done; 1: it is not, with the reason; 2: the command line is wrong",
    )
    what = purge.add_mutually_exclusive_group()
    what.add_argument("--url", metavar="URL", action="append", help="one URL")
    what.add_argument("--prefix", metavar="URL", action="append", help="all URLs that begin so")
    what.add_argument("--tag", metavar="TAG", action="append", help="all answers with this tag")
    purge.add_argument("--site", metavar="NAME", help="the site; alone: all of it")
    purge.add_argument("--all-sites", action="store_true", help="all sites of the edge, or the tags of all sites")
    _add_place(purge)
    purge.set_defaults(command=_purge, parser=purge)

    status = commands.add_parser(
        "status",
        help="say what an edge keeps, and how often that helped",
        description="Ask a running edge what it keeps of answers, and what came of requests since it started.",
    )
    status.add_argument("--json", action="store_true", help="as JSON")
    _add_place(status)
    status.set_defaults(command=_status)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", metavar="FILE", default="edge.toml", help="the edge.toml of the edge (default: edge.toml)"
    )
    parser.add_argument("--state", metavar="DIR", help="its state folder (default: that of the configuration)")


def _purge(options: argparse.Namespace) -> int:
    from wormhole_tw.cli.cache import purge
    from wormhole_tw.control.purging import Wish

    parser: argparse.ArgumentParser = options.parser
    if options.site is not None and options.all_sites:
        parser.error("either --site or --all-sites")
    of = {"site": options.site, "everywhere": options.all_sites}
    for kind in ("url", "prefix", "tag"):
        values = getattr(options, kind)
        if values is not None:
            wishes = [Wish(kind, value, **of) for value in values]
            break
    else:
        if options.site is None and not options.all_sites:
            parser.error("what is to be purged? One of --url, --prefix, --tag, --site and --all-sites")
        wishes = [Wish("site", "", **of)]
    return purge(wishes, config=options.config, state=options.state)


def _status(options: argparse.Namespace) -> int:
    from wormhole_tw.cli.cache import status

    return status(config=options.config, state=options.state, as_json=options.json)
