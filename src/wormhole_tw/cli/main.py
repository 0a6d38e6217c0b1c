"""``wormhole-tw``: the command line for people; ``twistd`` runs the two services."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from wormhole_tw.cli.cache_options import add_cache
from wormhole_tw.cli.process import version_text
from wormhole_tw.errors import WormholeError

__all__ = ["main"]

Command = Callable[[argparse.Namespace], int]

_EDGE_COMMANDS = frozenset({"certificates", "check", "init"})
"""What ``wormhole-tw edge`` does besides running one."""

_DESCRIPTION = """\
A service in a private network, served to the world with no inbound port.

  wormhole-tw demo                 see it work on this machine
  wormhole-tw expose 8000          a https address for what listens on port 8000
  wormhole-tw edge init …          the files of an edge on a public host, and what else it needs
  wormhole-tw edge --config F      run an edge in the foreground
  wormhole-tw route explain URL    which of an edge's routes takes a request, and why
  wormhole-tw cache purge …        throw away what an edge keeps of answers
  wormhole-tw agent --edge HOST    run an agent in the foreground
  wormhole-tw agent -- COMMAND     start a service, and serve it
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (without the program's name; ``sys.argv`` by default); gives the exit status.

    0: done; 1: it could not be done, with one line on standard error; 2: the command line itself is wrong.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    # The two services take options of their own, which twistd's parser knows; argparse must not touch them.
    if args[:1] == ["agent"]:
        return _twistd("wormhole-agent", args[1:])
    if args[:1] == ["edge"] and not set(args[1:2]) & _EDGE_COMMANDS:
        return _twistd("wormhole-edge", args[1:])
    options = _parser().parse_args(args)
    command: Command = options.command
    try:
        return command(options)
    except WormholeError as error:
        return fail(str(error))
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has gone; Python would complain once more while it shuts down
        return 1


def fail(sentence: str) -> int:
    """One line on standard error, and the status for it."""
    print(f"wormhole-tw: {' '.join(sentence.split())}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wormhole-tw", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=version_text())
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    expose = commands.add_parser(
        "expose",
        help="serve a private service under an https address; with no --edge on this machine alone",
        description="Run an agent in the foreground. Without --edge it starts a local edge too, with a certificate of "
        "its own CA, on a *.localhost name that needs no DNS.",
    )
    expose.add_argument(
        "target", metavar="TARGET", help="8000, host:port, http://…, https://…, unix:/path, or a client endpoint"
    )
    expose.add_argument("--edge", metavar="HOST[:443]", help="the edge to dial; without it, one is started here")
    expose.add_argument("--token-file", metavar="FILE", help="a file that holds the token (default: FLY_TOKEN)")
    expose.add_argument("--ca-file", metavar="FILE", help="CA certificates to trust for the edge, beside the system's")
    expose.add_argument("--local-ca-file", metavar="FILE", help="CA certificates to trust for an https:// TARGET")
    expose.add_argument("--local-insecure", action="store_true", help="do not verify an https:// TARGET's certificate")
    _add_local_edge(expose, "app")
    expose.set_defaults(command=_expose)

    demo = commands.add_parser(
        "demo",
        help="a sample service behind a local edge, fetched once over verified https",
        description="Start a small sample service, an edge and an agent in one process, fetch a page through them over "
        "verified https, and stay until Ctrl-C.",
    )
    demo.add_argument("--once", action="store_true", help="end after the fetch: status 0 if it worked, 1 if not")
    _add_local_edge(demo, "demo")
    demo.set_defaults(command=_demo)

    commands.add_parser("edge", help="run an edge in the foreground (options: wormhole-tw edge --help)")
    edge = commands.choices["edge"].add_subparsers(required=True, metavar="COMMAND")
    check = edge.add_parser("check", help="check an edge.toml without starting anything")
    check.add_argument("file", metavar="FILE", help="the edge.toml")
    check.set_defaults(command=_check)
    _add_init(edge.add_parser("init", help="write the files of a new edge, and say what else it needs"))

    names = edge.add_parser(
        "certificates",
        help="say how the certificate of each name stands",
        description="A table of the configured names, their certificates and the last error of each, from the state "
        "folder; status 1 where a name has no valid certificate.",
    )
    names.add_argument("-c", "--config", metavar="FILE", default="edge.toml", help="the edge.toml (default: edge.toml)")
    names.add_argument("--state", metavar="DIR", help="the state folder (default: that of the configuration)")
    names.set_defaults(command=_certificates)

    _add_route(commands.add_parser("route", help="say which route takes a request, and import rules"))

    add_cache(commands.add_parser("cache", help="throw away what an edge keeps of answers, and see how much that is"))

    commands.add_parser("agent", help="run an agent in the foreground (options: wormhole-tw agent --help)")

    token = commands.add_parser("token", help="make tokens")
    tokens = token.add_subparsers(required=True, metavar="COMMAND")
    generate = tokens.add_parser("generate", help="print a new token, and its line for edge.toml")
    generate.set_defaults(command=_generate)
    return parser


def _add_local_edge(parser: argparse.ArgumentParser, name: str) -> None:
    local = parser.add_argument_group("the local edge")
    local.add_argument("--name", metavar="LABEL", help=f"the address is https://LABEL.localhost (default: {name})")
    local.add_argument("--port", type=_port, metavar="PORT", help="its https port (default: 8443, or any free one)")
    local.add_argument(
        "--state",
        metavar="DIR",
        help="where its CA is kept, to be trusted once (default: wormhole-tw in XDG_STATE_HOME or ~/.local/state)",
    )


def _add_init(init: argparse.ArgumentParser) -> None:
    init.description = (
        "Write edge.toml, a first token and a systemd unit, and say what is to be done in DNS and firewall and how the "
        "agent is started. No file that is there already is touched."
    )
    init.add_argument("--hostname", metavar="NAME", required=True, help="the edge's own name, which agents dial")
    init.add_argument("--email", metavar="ADDRESS", help="where the CA can write to; needed unless --mode dev")
    init.add_argument(
        "--site",
        metavar="NAME",
        action="append",
        help="a host name for visitors; may be given several times (default: app.NAME, of the edge's name)",
    )
    init.add_argument(
        "--local", metavar="TARGET", default="127.0.0.1:8000", help="the service, for the agent's command (%(default)s)"
    )
    init.add_argument("--directory", metavar="DIR", default=".", help="where to write (default: here)")
    init.add_argument(
        "--mode",
        choices=("acme", "dev"),
        default="acme",
        help="acme: certificates of a public CA (default); dev: of a CA of the edge's own, which clients have to trust",
    )
    init.add_argument("--acme-directory", metavar="URL", help="another CA than Let's Encrypt")
    init.add_argument("--acme-ca-file", metavar="FILE", help="CA certificates to trust for that URL, for a private CA")
    init.add_argument(
        "--dns-hook", metavar="PROGRAM", help="what writes your DNS (docs/dns.md): certificates for wildcards need it"
    )
    init.add_argument(
        "--agent-ca-file", metavar="FILE", help="the agent's --ca-file: who vouches for the edge, likewise"
    )
    init.add_argument("--https-port", type=_port, metavar="PORT", default=443, help="(default: %(default)s)")
    init.add_argument("--http-port", type=_port, metavar="PORT", default=80, help="(default: %(default)s)")
    init.add_argument("--program", metavar="PATH", help="wormhole-tw as the unit finds it (default: this one)")
    init.set_defaults(command=_init)


def _add_route(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    explain = commands.add_parser(
        "explain",
        help="say which route takes a request, and why the ones before it do not",
        description="Read an edge.toml and say which of a site's routes takes a request, what becomes of it, and why "
        "the routes before it do not take it. Nothing is sent. Status 1 where none takes it.",
    )
    explain.add_argument("url", metavar="URL", help="https://host/path?query")
    explain.add_argument(
        "-c", "--config", metavar="FILE", default="edge.toml", help="the edge.toml (default: edge.toml)"
    )
    explain.add_argument("-X", "--method", metavar="METHOD", default="GET", help="(default: GET)")
    explain.add_argument(
        "-H", "--header", metavar="LINE", action="append", default=[], help='"Name: value"; may be given several times'
    )
    explain.add_argument("--address", metavar="IP", default="", help="the visitor's address")
    explain.add_argument(
        "--branch", metavar="NAME", action="append", default=[], help="as if a ready agent of this branch were there"
    )
    explain.set_defaults(command=_explain)
    rules = commands.add_parser(
        "import",
        help="print rules of superfly/edge as routes",
        description="Print rules of superfly/edge (JSON or YAML: a list of them, or a configuration with rules) as the "
        "[[sites.routes]] of an edge.toml. Status 1 where something could not be taken over.",
    )
    rules.add_argument("file", metavar="FILE", help="the rules")
    rules.set_defaults(command=_import)


def _port(text: str) -> int:
    port = int(text)
    if not 1 <= port <= 65535:
        raise ValueError
    return port


_port.__name__ = "port"  # argparse says "invalid port value"


def _expose(options: argparse.Namespace) -> int:
    from wormhole_tw.cli.expose import expose

    return expose(options)


def _demo(options: argparse.Namespace) -> int:
    from wormhole_tw.cli.expose import demo

    return demo(options)


def _check(options: argparse.Namespace) -> int:
    from wormhole_tw.cli.edge_check import check

    return check(options.file)


def _certificates(options: argparse.Namespace) -> int:
    from wormhole_tw.cli.edge_certificates import certificates

    return certificates(options.config, options.state)


def _init(options: argparse.Namespace) -> int:
    from wormhole_tw.cli.edge_init import init

    return init(options)


def _explain(options: argparse.Namespace) -> int:
    from wormhole_tw.cli.routes import explain_route

    return explain_route(
        options.url,
        config=options.config,
        method=options.method,
        headers=options.header,
        address=options.address,
        branches=options.branch,
    )


def _import(options: argparse.Namespace) -> int:
    from wormhole_tw.cli.routes import import_file

    return import_file(options.file)


def _generate(options: argparse.Namespace) -> int:
    from wormhole_tw.control.tokens import digest_line, generate

    token = generate()
    print(f"token      {token}")
    print(f"edge.toml  {digest_line(token)}")
    print(
        "The first goes to the agent (FLY_TOKEN, or a file for --token-file) and is shown only now; "
        "the second into a backend's tokens.",
        file=sys.stderr,
    )
    return 0


def _twistd(plugin: str, args: Sequence[str]) -> int:
    """Run a plugin in the foreground, as ``twistd -n`` does, in this process."""
    from twisted.scripts import twistd

    sys.argv = ["twistd", "-n", plugin, *args]
    twistd.run()
    return 0


def run() -> NoReturn:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
