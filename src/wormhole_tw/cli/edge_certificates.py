"""``wormhole-tw edge certificates``: how the certificate of each name stands, as the state folder says.

It reads only, so that it may be asked while an edge runs and while none does.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wormhole_tw.control.config import Override
from wormhole_tw.control.environment import environment_overrides
from wormhole_tw.control.stores.file import FileStore
from wormhole_tw.edge.certificates.files import load_certificates
from wormhole_tw.edge.certificates.status import NameStatus, acme_statuses, configured_names, shown_time
from wormhole_tw.edge.certificates.store import CertificateStore

if TYPE_CHECKING:
    from wormhole_tw.control.config import EdgeConfig

__all__ = ["certificates"]


def certificates(file: str, state: str | None = None) -> int:
    """Print a table; gives 0 where every name has a valid certificate, else 1.

    :param state: the state folder, where it is not the configuration's
    :raises ConfigError: the configuration is wrong, or the state folder cannot be read
    """
    overrides = environment_overrides(os.environ)
    if state:
        overrides["edge.state"] = Override(os.path.abspath(state), "--state")
    config, _ = FileStore(file, overrides).load()
    now = time.time()
    statuses = _statuses(config, now)
    for line in _table(statuses, now, acme=config.tls.mode == "acme"):
        print(line)
    bad = [status.name for status in statuses if status.state in ("missing", "expired")]
    if not bad:
        return 0
    of = f"{len(bad)} of {len(statuses)} names have" if len(statuses) > 1 else "the name has"
    print(f"wormhole-tw: {of} no valid certificate", file=sys.stderr)
    return 1


def _statuses(config: EdgeConfig, now: float) -> list[NameStatus]:
    names = [name for group in configured_names(config) for name in group]
    if config.tls.mode == "dev":
        return [NameStatus(name, "local") for name in names]
    if config.tls.mode == "files":
        served = load_certificates(config)
        found = []
        for name in names:
            material = served.serves(name)
            ends = None if material is None else material.not_after.timestamp()
            state = "missing" if ends is None else "valid" if ends > now else "expired"
            found.append(NameStatus(name, state, ends=ends))  # type: ignore[arg-type]
        return found
    assert config.tls.acme is not None
    store = CertificateStore(config.state, config.tls.acme.directory, source=f"{config.source}: $.edge.state")
    stored = store.certificates()
    done = {one.id for one in stored}
    ordered = [name for order in store.orders() if order.id not in done for name in order.names]
    return acme_statuses(config, stored, store.others(), store.status(), ordered, now)


def _table(statuses: Sequence[NameStatus], now: float, *, acme: bool) -> list[str]:
    rows = [("NAME", "STATE", "ENDS", "DAYS", "NEXT")]
    for status in statuses:
        days = status.days_left(now)
        ends = "-" if status.ends is None else shown_time(status.ends)
        left = "-" if days is None else str(math.floor(days))
        rows.append((status.name, status.state, ends, left, _next(status, now, acme=acme)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row, about in zip(rows, [None, *statuses], strict=True):
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if about is not None and about.error:
            tries = f", {about.failures} in a row" if about.failures > 1 else ""
            lines.append(f"    last error {shown_time(about.error_at)}{tries}: {about.error}")
    return lines


def _next(status: NameStatus, now: float, *, acme: bool) -> str:
    if status.state == "local":
        return "the local CA's, made at each start"
    if status.error and status.next_try > now:
        return f"tried again {shown_time(status.next_try)}"
    if status.ordered:
        return "ordered"
    if status.renew_at is not None:
        return f"renewed from {shown_time(status.renew_at)}" if status.renew_at > now else "due to be renewed"
    return "to be ordered" if acme else "-"
