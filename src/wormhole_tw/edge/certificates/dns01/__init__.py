"""Proof by DNS (DNS-01, RFC 8555 §8.4): a hook program or a dynamic update writes it, and the edge waits for it.

What asks name servers uses dnspython (the extra ``acme``) and blocks, so it runs in threads, one short question after
another; what waits in between waits on the reactor, and can be cancelled.
"""
