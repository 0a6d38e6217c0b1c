"""Carriers: the byte pipes under a link. One file each, and each gives an ``IStreamClientEndpoint``."""
