"""Twisted helpers that know neither the tunnel nor HTTP: turns, timers, addresses, TLS, relays, transports."""
