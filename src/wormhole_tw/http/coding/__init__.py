"""Content codings (RFC 9110 §8.4) of answers: which one a visitor is given, which answers get one, and what their heads
say then; and the encoders.  No IO, and no time."""

from wormhole_tw.http.coding.answers import DIGESTS, Wanted, asking_for, coded_head, coded_trailers, wanted_coding
from wormhole_tw.http.coding.encoders import (
    AVAILABLE,
    BROTLI,
    GZIP,
    ZLIB,
    ZSTD,
    Encoder,
    encoded,
    encoder,
    zlib_encoder,
)
from wormhole_tw.http.coding.negotiation import acceptable, preferred, refuses_identity
from wormhole_tw.http.coding.rules import CODINGS, DEFAULT_TYPES, SMALLEST, CodingRules, MediaTypes

__all__ = [
    "AVAILABLE",
    "BROTLI",
    "CODINGS",
    "DEFAULT_TYPES",
    "DIGESTS",
    "GZIP",
    "SMALLEST",
    "ZLIB",
    "ZSTD",
    "CodingRules",
    "Encoder",
    "MediaTypes",
    "Wanted",
    "acceptable",
    "asking_for",
    "coded_head",
    "coded_trailers",
    "encoded",
    "encoder",
    "preferred",
    "refuses_identity",
    "wanted_coding",
    "zlib_encoder",
]
