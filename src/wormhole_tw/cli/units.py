"""The systemd unit of an edge, as ``wormhole-tw edge init`` writes it and as it stands in ``deploy/systemd``."""

from __future__ import annotations

__all__ = ["CONFIG_FILE", "PROGRAM", "UNIT_NAME", "UNIT_STATE", "edge_unit"]

UNIT_NAME = "wormhole-edge.service"

PROGRAM = "/opt/wormhole-tw/bin/wormhole-tw"
"""Where a service of its own user finds the program: a virtual environment that root made."""

CONFIG_FILE = "/etc/wormhole-tw/edge.toml"
"""What the unit reads, at its start and at each reload."""

UNIT_STATE = "/var/lib/wormhole-edge"
"""The unit's state folder, as root sees it."""

_EDGE = """\
# The edge of wormhole-tw.  It goes to /etc/systemd/system/wormhole-edge.service; change it with
# `systemctl edit wormhole-edge`, which leaves this file as it is.

[Unit]
Description=wormhole-tw edge
Wants=network-online.target
After=network-online.target

[Service]
# It says itself when its ports are open, and when it begins to stop.
Type=notify
ExecStart={program} edge --config {config} --state %S/wormhole-edge
# Reads edge.toml again; one with a mistake changes nothing.
ExecReload=/bin/kill -HUP $MAINPID
# A restart that fails no request: systemctl kill --signal=USR2 --kill-whom=main wormhole-edge
Restart=always
RestartSec=1
# SIGTERM lets requests finish, limits.drain (30 s) at most.
TimeoutStopSec=40
KillMode=mixed

# A user of its own, which exists while the service runs; certificates and their keys are in /var/lib/wormhole-edge.
DynamicUser=yes
User=wormhole-edge
StateDirectory=wormhole-edge
StateDirectoryMode=0700
UMask=0077

# Secrets are root's files, handed to this service alone: /etc/credstore/wormhole-edge.account-key becomes
# /run/credentials/wormhole-edge.service/wormhole-edge.account-key, which edge.toml names.  Those that are not there
# are not missed.
LoadCredential=wormhole-edge.account-key
LoadCredential=wormhole-edge.dns-key
LoadCredential=wormhole-edge.tls-certificate
LoadCredential=wormhole-edge.tls-key

# Ports 443 and 80, and no other right.
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes

# The system is there to be read, what is other people's is not there at all.
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateIPC=yes
PrivateMounts=yes
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
KeyringMode=private
LockPersonality=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
# Not here: PrivateUsers=, with which the right to ports 443 and 80 would be worth nothing, and
# MemoryDenyWriteExecute=, which Python's binding to OpenSSL cannot live with.

[Install]
WantedBy=multi-user.target
"""


def edge_unit(program: str = PROGRAM, config: str = CONFIG_FILE) -> str:
    """The text of the unit.

    :param program: the absolute path of ``wormhole-tw``
    :param config: the absolute path of edge.toml
    """
    return _EDGE.format(program=_escaped(program), config=_escaped(config))


def _escaped(path: str) -> str:
    """A path as one word of ``ExecStart=`` (systemd.service(5), systemd.unit(5)): specifiers, variables and quotes are
    read in it otherwise."""
    path = path.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$").replace('"', '\\"')
    return f'"{path}"' if any(char.isspace() or char in "'\";" for char in path) else path
