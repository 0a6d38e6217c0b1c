"""The contenders: how each is configured and started. :mod:`benchmarks.peers.registry` lists them."""
