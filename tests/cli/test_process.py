"""What a command does to its process."""

from __future__ import annotations

import resource
import sys

import pytest

from wormhole_tw.cli.process import raise_descriptor_limit


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit stays what it is")
def test_every_descriptor_that_the_process_may_have() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
