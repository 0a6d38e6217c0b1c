"""Middleware: Python between the edge and a service (docs/programmable-edge.md).

A middleware is an object with ``async def __call__(self, request, next)``, named in edge.toml for a site or a route.
Here is what it is made of, and those that come with the edge.
"""

from __future__ import annotations

from wormhole_tw.errors import HttpError, NextFailed
from wormhole_tw.middleware.ab import AbTest
from wormhole_tw.middleware.body import Body
from wormhole_tw.middleware.device import DeviceHeaders
from wormhole_tw.middleware.headers import Headers
from wormhole_tw.middleware.inject import InjectHtml
from wormhole_tw.middleware.messages import Middleware, Next, Request, Response

__all__ = [
    "AbTest",
    "Body",
    "DeviceHeaders",
    "Headers",
    "HttpError",
    "InjectHtml",
    "Middleware",
    "Next",
    "NextFailed",
    "Request",
    "Response",
]
