"""Certificates that are had from a CA."""
