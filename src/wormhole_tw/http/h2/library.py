"""The ``h2`` library's connection, set up so that nothing in it decides what is ours to decide.

It keeps the states of streams, the windows and the settings, and writes HEADERS.  It sees only frames that were judged
before (``server``), because it ends the whole connection for many a fault of one stream; and header blocks are decoded
by us and shown to it empty, for its own judgement of them (Content-Length among it) cannot be switched off.
"""

from __future__ import annotations

from collections.abc import Iterable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hpack import Decoder, HeaderTuple

from wormhole_tw.http.h2.frames import PREFACE
from wormhole_tw.http.h2.headers import RememberingEncoder
from wormhole_tw.http.h2.limits import MAX_FRAME, REMEMBERED, TABLE_SIZE, H2Limits

__all__ = ["Library"]

_CONFIG = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)

_FIRST_WINDOW = 65535
"""What every connection begins with (RFC 9113 §6.9.2)."""


class _Blank(Decoder):
    """Stands where the library would decode a header block a second time."""

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        return []


class Library(H2Connection):
    """The server's side of a connection, its SETTINGS queued."""

    MAX_CLOSED_STREAMS = REMEMBERED

    def __init__(self, limits: H2Limits) -> None:
        super().__init__(_CONFIG)
        self.decoder = _Blank()
        self.encoder = RememberingEncoder()
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.HEADER_TABLE_SIZE: TABLE_SIZE,
                SettingCodes.INITIAL_WINDOW_SIZE: limits.window,
                SettingCodes.MAX_FRAME_SIZE: MAX_FRAME,
                SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.head,
                SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
            },
        )
        self.initiate_connection()
        if limits.connection_window > _FIRST_WINDOW:
            self.increment_flow_control_window(limits.connection_window - _FIRST_WINDOW)
        self.receive_data(PREFACE)
