"""Proof by DNS."""
