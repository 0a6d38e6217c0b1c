"""``wormhole-tw edge init``: the files of a new edge, and what else is to be done for it."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import shutil
import stat
import sys
import sysconfig
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from wormhole_tw import __version__
from wormhole_tw.agent.targets import parse_target
from wormhole_tw.cli.new_files import NewFile, write_new
from wormhole_tw.cli.units import CONFIG_FILE, PROGRAM, UNIT_NAME, UNIT_STATE, edge_unit
from wormhole_tw.control.acme import AcmeConfig, is_acme_name
from wormhole_tw.control.config import EdgeConfig, Override
from wormhole_tw.control.names import normalise_hostname
from wormhole_tw.control.tokens import digest_line, generate
from wormhole_tw.errors import ConfigError
from wormhole_tw.net.addresses import format_host_port, is_ip_address
from wormhole_tw.net.pem import load_ca_certificates

__all__ = ["init"]

BACKEND = "app"
"""The name of the first backend, and the first label of the site that it serves where no other is named."""

CONFIG, TOKEN, CA = "edge.toml", "token", "acme-ca.pem"
"""Files that are written, beside the unit."""

ADMIN_PORT = 9190
"""Of /healthz, /readyz and /metrics, on the loopback address."""

_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
"""What the unit's ``ProtectHome=`` and ``PrivateTmp=`` hide."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What was asked for, checked.

    :ivar hostname: the edge's own name
    :ivar sites: the host names that the first backend serves
    :ivar config: what edge.toml will say
    """

    options: argparse.Namespace
    hostname: str
    sites: tuple[str, ...]
    directory: Path
    config: EdgeConfig

    @property
    def acme(self) -> AcmeConfig | None:
        return self.config.tls.acme

    @property
    def unit_config(self) -> str:
        """Where the unit reads edge.toml: in place, where root keeps it under /etc already."""
        here = self.directory / CONFIG
        return str(here) if here.is_relative_to("/etc") else CONFIG_FILE


def init(options: argparse.Namespace) -> int:
    """Write the files of an edge, say what is to be done with them, and give the exit status.

    :raises ConfigError: an option is wrong, or a file is there already or cannot be written; then nothing has changed
    """
    for name, value in vars(options).items():
        if isinstance(value, str) and not value.isprintable():
            raise ConfigError(f"--{name.replace('_', '-')}", "", "has characters that cannot be printed")
    token = generate()
    hostname = _hostname("--hostname", options.hostname)
    sites = _sites(options, hostname)
    text = _edge_toml(options, hostname, sites, token)
    directory = Path(options.directory).absolute()
    config = _checked(options, hostname, sites, text, directory)
    plan = _Plan(options, hostname, sites, directory, config)
    program, unreachable = _program(options.program)
    files = [
        NewFile(CONFIG, text.encode(), 0o644, "the edge's configuration; no secret is in it"),
        NewFile(TOKEN, f"{token}\n".encode(), 0o600, "the agent's token: a secret, and this is its only copy"),
        NewFile(UNIT_NAME, edge_unit(program, plan.unit_config).encode(), 0o644, "the edge as a service of systemd"),
    ]
    if options.acme_ca_file is not None:
        content = Path(options.acme_ca_file).read_bytes()
        files.append(NewFile(CA, content, 0o644, f"who vouches for the CA's server: {options.acme_ca_file}"))
    write_new(directory, files)
    for line in _guide(plan, files, program, to_install=unreachable):
        print(line)
    return 0


# What was asked for.


def _hostname(source: str, text: str, *, wildcard: bool = False) -> str:
    try:
        return normalise_hostname(text.strip(), wildcard=wildcard)
    except ValueError as error:
        raise ConfigError(source, "", f"{text!r} is no host name: {error}") from None


def _sites(options: argparse.Namespace, hostname: str) -> tuple[str, ...]:
    if not options.site:
        if is_ip_address(hostname):
            raise ConfigError("--site", "", f"{hostname} is an address, so say under which host name visitors come")
        return (_hostname("--hostname", f"{BACKEND}.{hostname}"),)
    sites = tuple(dict.fromkeys(_hostname("--site", text, wildcard=True) for text in options.site))
    if hostname in sites:
        reason = f"{hostname} is the edge's own name, which agents dial; give visitors another one"
        raise ConfigError("--site", "", reason)
    return sites


def _checked(
    options: argparse.Namespace, hostname: str, sites: Sequence[str], text: str, directory: Path
) -> EdgeConfig:
    """What ``text`` says, as ``wormhole-tw edge`` will read it.

    :raises ConfigError: it would refuse it; the error names the option
    """
    acme = options.mode == "acme"
    for name in ("email", "acme_directory", "acme_ca_file", "dns_hook"):
        if getattr(options, name) is not None and not acme:
            raise ConfigError(f"--{name.replace('_', '-')}", "", "it is for --mode acme")
    if acme and options.email is None:
        raise ConfigError("--email", "", "give an address at which the CA can write to you; --mode dev needs none")
    if options.acme_ca_file is not None:
        if options.acme_directory is None:
            raise ConfigError("--acme-ca-file", "", "it is for a CA of your own: give its --acme-directory URL too")
        load_ca_certificates(options.acme_ca_file, source="--acme-ca-file", key="")
    if options.agent_ca_file is not None:
        load_ca_certificates(options.agent_ca_file, source="--agent-ca-file", key="")
    try:
        parse_target(options.local)
    except ValueError as error:
        raise ConfigError("--local", "", str(error)) from None
    if options.http_port == options.https_port:
        raise ConfigError("--http-port", "", f"port {options.http_port} is the https port already")
    for option, port in (("--https-port", options.https_port), ("--http-port", options.http_port)):
        if port == ADMIN_PORT:
            raise ConfigError(option, "", f"port {port} is where this machine asks for the edge's health and metrics")
    if acme and options.dns_hook is None:
        for site in sites:
            _check_provable(site)
    said = tomllib.loads(text)
    # The same values once more, so that an error in one of them names the option that it came from.
    named = {
        "edge.names": Override([hostname], "--hostname"),
        **({"tls.email": Override(options.email, "--email")} if acme else {}),
        **({"tls.dns.hook": Override(_hook(options), "--dns-hook")} if options.dns_hook else {}),
        **({"tls.directory": Override(options.acme_directory, "--acme-directory")} if options.acme_directory else {}),
    }
    config = EdgeConfig.from_dict(said, source=CONFIG, folder=directory, overrides=named)
    if config.tls.acme is not None:
        for option, name in (("--hostname", hostname), *(("--site", site) for site in sites)):
            _check_for_ca(option, name, config.tls.acme)
    return config


def _check_provable(site: str) -> None:
    if site.startswith("*."):
        what = f"a CA gives a certificate for the wildcard {site} only to whoever can write its DNS (DNS-01)"
        reason = f"{what}: give --dns-hook PROGRAM, which writes it (docs/dns.md), or the single names"
        raise ConfigError("--site", "", reason)


def _check_for_ca(option: str, name: str, acme: AcmeConfig) -> None:
    if not is_acme_name(acme, name):
        reason = (
            f"{name} is in nobody's public DNS, so that no CA gives a certificate for it; choose another, or --mode dev"
        )
        raise ConfigError(option, "", reason)


def _program(given: str | None) -> tuple[str, bool]:
    """The program that the unit starts, and whether it still has to be put there: what lies in somebody's home, a
    service with a user of its own cannot read.

    :raises ConfigError: ``--program`` is no absolute path
    """
    if given is not None:
        if not os.path.isabs(given):
            raise ConfigError("--program", "", f"{given!r} is no absolute path, which systemd needs")
        return given, False
    here = _own_program()
    needed = [here, sys.prefix, sys.base_prefix, os.path.dirname(os.path.abspath(__file__))]
    if here == PROGRAM or all(_open_to_all(Path(path)) for path in needed):
        return here, False
    return PROGRAM, not os.path.exists(PROGRAM)


def _own_program() -> str:
    """``wormhole-tw`` of the Python that runs this; how it was called says nothing of where it is."""
    own = os.path.join(sysconfig.get_path("scripts"), "wormhole-tw")
    return own if os.path.exists(own) else shutil.which("wormhole-tw") or own


def _open_to_all(path: Path) -> bool:
    """Whether any user of a sandboxed service could read it."""
    if any(path.is_relative_to(folder) for folder in _HIDDEN):
        return False
    try:
        return all(one.stat().st_mode & stat.S_IXOTH for one in (path, *path.parents))
    except OSError:
        return False


# The file.


def _edge_toml(options: argparse.Namespace, hostname: str, sites: Sequence[str], token: str) -> str:
    return "\n".join(_toml_lines(options, hostname, sites, token)) + "\n"


def _toml_lines(options: argparse.Namespace, hostname: str, sites: Sequence[str], token: str) -> Iterator[str]:
    yield f"# What these keys mean, and all the others: docs/configuration.md.  `wormhole-tw edge check {CONFIG}` says"
    yield "# whether it is good, and `systemctl reload wormhole-edge` lets a running edge take over what was changed."
    yield ""
    yield "[edge]"
    yield f"names = [{_quoted(hostname)}]"
    yield f'https = ["tcp:{options.https_port}"]'.ljust(38) + ' # for IPv4; "tcp6:…" takes IPv6 and IPv4'
    yield f'http = ["tcp:{options.http_port}"]'
    yield (
        f'admin = "tcp:{ADMIN_PORT}:interface=127.0.0.1"'.ljust(38)
        + " # /healthz, /readyz and /metrics, for this machine"
    )
    yield ""
    yield "[tls]"
    yield f"mode = {_quoted(options.mode)}"
    if options.mode == "acme":
        yield f"email = {_quoted(options.email or '')}"
        yield "agree_tos = true".ljust(38) + " # you agree to the CA's terms of service"
        if options.acme_directory is not None:
            yield f"directory = {_quoted(options.acme_directory)}"
        if options.acme_ca_file is not None:
            yield f"directory_ca_file = {_quoted(CA)}"
        if options.dns_hook is not None:
            yield ""
            yield "[tls.dns]".ljust(38) + " # proves wildcards: docs/dns.md"
            yield f"hook = [{', '.join(map(_quoted, _hook(options)))}]"
    yield ""
    yield "[[backends]]"
    yield f"name = {_quoted(BACKEND)}"
    yield f"tokens = [{_quoted(digest_line(token))}]"
    yield ""
    yield "[[sites]]"
    yield f"hostnames = [{', '.join(map(_quoted, sites))}]"
    yield "[[sites.routes]]"
    yield 'path = "/"'
    yield f"backend = {_quoted(BACKEND)}"


def _quoted(text: str) -> str:
    """A basic string of TOML; JSON's are among them."""
    return json.dumps(text, ensure_ascii=False)


def _hook(options: argparse.Namespace) -> list[str]:
    return [os.path.abspath(options.dns_hook)]


# What else is to be done.


def _guide(plan: _Plan, files: Sequence[NewFile], program: str, *, to_install: bool) -> Iterator[str]:
    options, acme = plan.options, plan.acme
    width = max(len(file.name) for file in files)
    yield f"Written into {plan.directory}:"
    for file in files:
        yield f"  {file.name:{width}}  {file.what}"
    yield ""
    yield "1. DNS: let these names lead to the machine of the edge, each by an A record:"
    yield ""
    for name in (plan.hostname, *plan.sites):
        yield f"     {name}"
    yield ""
    wildcards = [site for site in plan.sites if site.startswith("*.")]
    if acme is not None and wildcards:
        yield f"   The CA has {' and '.join(wildcards)} proved in the DNS itself (DNS-01): {_hook(options)[0]}"
        yield "   writes the records."
        yield ""
    yield f"2. Firewall: let in TCP {options.https_port}, for visitors and agents, and {options.http_port},"
    if acme is not None:
        port = urlsplit(acme.directory).port or 443
        yield "   where the CA looks whether the names are yours. Out, the edge has to reach the CA:"
        yield f"   {urlsplit(acme.directory).hostname}, TCP {port}."
        if options.http_port != 80:
            yield f"   The CA looks at port 80 of these names: forward it to port {options.http_port}."
    else:
        yield "   from where visitors are sent on to https. The edge dials nobody."
        yield "   Who comes has to trust the edge's own CA, which it makes when it first starts: state/dev/ca.pem here,"
        yield f"   {UNIT_STATE}/dev/ca.pem of the service."
    yield ""
    if options.dns_hook is not None and not _open_to_all(Path(_hook(options)[0])):
        # said before the commands, which would start a service that refuses its configuration
        yield "3. The service sees neither homes nor /tmp, so first put"
        yield f"   {_hook(options)[0]} elsewhere, into /usr/local/lib say,"
        yield f"   and its new path into {CONFIG}. Then the edge, as root on its machine, where these files are:"
    else:
        yield "3. The edge, as root on its machine, where these files are:"
    yield ""
    for command in _root_commands(plan, files, program if to_install else None):
        yield f"     {command}"
    yield ""
    if acme is not None:
        yield "   With that you agree to the terms of service of the CA: agree_tos in edge.toml."
        yield "   The certificates are there a minute later, where DNS and firewall are right. How they stand:"
        yield ""
        status = [program, "edge", "certificates", "--config", plan.unit_config, "--state", UNIT_STATE]
        yield f"     {shlex.join(status)}"
        yield ""
    yield "   To try it in a terminal, where you may listen on these ports:"
    yield ""
    yield f"     {_command()} edge --config {shlex.quote(_here(plan, CONFIG))}"
    yield ""
    yield f"4. The agent, beside the service that it serves ({options.local}). On another machine it needs a copy of"
    yield "   the token, and nowhere an open port:"
    yield ""
    yield f"     {_agent_command(plan)}"
    yield ""
    if acme is not None and options.acme_directory is not None and options.agent_ca_file is None:
        yield "   Where that machine does not trust the CA's certificates, add --ca-file with its root certificate."
        yield ""
    url = format_host_port(plan.sites[0].replace("*", "anything"), options.https_port, 443)
    yield f"5. Visit https://{url}/"


def _root_commands(plan: _Plan, files: Sequence[NewFile], to_install: str | None) -> Iterator[str]:
    def quoted(name: str) -> str:
        return shlex.quote(_here(plan, name))

    if to_install is not None:
        venv = os.path.dirname(os.path.dirname(to_install))
        wheel = f"wormhole_tw-{__version__}-py3-none-any.whl"
        yield f"python3 -m venv {venv}"
        extra = "[acme]" if plan.acme is not None else ""
        yield f"{venv}/bin/pip install '{wheel}{extra}'   # `make wheel` puts it into dist"
    elif plan.acme is not None and plan.options.program is None and importlib.util.find_spec("acme") is None:
        yield f"{shlex.quote(sys.executable)} -m pip install 'wormhole-tw[acme]'"
    if plan.unit_config == CONFIG_FILE and plan.directory != Path(CONFIG_FILE).parent:
        read = [file.name for file in files if file.name in (CONFIG, CA)]
        yield f"install -D -m 644 -t {os.path.dirname(CONFIG_FILE)} {' '.join(map(quoted, read))}"
    yield f"install -m 644 -t /etc/systemd/system {quoted(UNIT_NAME)}"
    yield "systemctl daemon-reload"
    yield f"systemctl enable --now {UNIT_NAME.removesuffix('.service')}"


def _agent_command(plan: _Plan) -> str:
    options = plan.options
    words = [_command(), "agent", "--edge", format_host_port(plan.hostname, options.https_port, 443)]
    words += ["--token-file", _here(plan, TOKEN), "--local", options.local]
    if options.agent_ca_file is not None:
        words += ["--ca-file", options.agent_ca_file]
    elif options.mode == "dev":
        words += ["--ca-file", _here(plan, "state/dev/ca.pem")]
    return shlex.join(words)


def _here(plan: _Plan, name: str) -> str:
    """A file of ours as somebody in this folder calls it."""
    return os.path.normpath(os.path.join(plan.options.directory, name))


def _command() -> str:
    """How this program is called here."""
    own = _own_program()
    return "wormhole-tw" if shutil.which("wormhole-tw") or not os.path.exists(own) else own
