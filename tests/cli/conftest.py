"""The edge and the service of the agents' tests, for programs too."""

from __future__ import annotations

from tests.agent.conftest import edge, local

__all__ = ["edge", "local"]
