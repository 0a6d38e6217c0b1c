"""Bytes that nobody has thought of, for everything that reads what strangers send; see ``targets``."""
