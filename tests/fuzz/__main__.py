"""Run the fuzzer: ``python -m tests.fuzz [--seconds 60] [TARGET …]`` (``make fuzz``); needs atheris.

What it finds is written to ``--found`` and printed; run it again with ``--input FILE TARGET``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

WORDS = (
    *("HTTP/1.1", "HTTP/1.0", "GET ", "HEAD ", "POST ", "OPTIONS ", "Host: a.test", "http://", "?", "%2e%2e", "/../"),
    *("PROXY TCP4 ", "PROXY TCP6 ", "PROXY UNKNOWN", "for=", "by=_x", "proto=https", "192.0.2.1", "[2001:db8::1]:1"),
    *("Content-Length: ", "Transfer-Encoding: ", "chunked", "gzip", "identity", "Connection: ", "close", "keep-alive"),
    *(
        "Cache-Control: ",
        "max-age=",
        "no-cache",
        "private",
        "s-maxage=",
        "must-understand",
        "Vary: ",
        "ETag: ",
        "Age: ",
    ),
    *(
        "Content-Range: bytes ",
        "Range: bytes=",
        "If-None-Match: ",
        "CDN-Cache-Control: ",
        "Expires: ",
        "Last-Modified: ",
    ),
    *("Upgrade: ", "websocket", "h2c", "Expect: 100-continue", "TE: trailers", "Max-Forwards: ", "Trailer: ", "200 "),
    *(
        "100 ",
        "101 ",
        "103 ",
        "204 ",
        "304 ",
        "0\\x0d\\x0a\\x0d\\x0a",
        "\\x0d\\x0a",
        "\\x0d\\x0a\\x0d\\x0a",
        "\\x0d\\x0a ",
    ),
    *(
        "5\\x0d\\x0ahello\\x0d\\x0a",
        ";a=b",
        "ffffffffffffffff",
        "0x",
        "+",
        "_",
        ", ",
        ":",
        "\\x00",
        "\\x0b",
        "\\xc3\\xa9",
    ),
)
"""What libFuzzer may put in: it would take long to come upon them."""

NAMES = (
    *("request", "answer", "chunks", "h2_visitor", "h2_service"),
    *("target", "proxy", "hello", "forwarding", "caching", "frames", "session"),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz what reads strangers' octets.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(NAMES) + "; all of them unless told")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--runs", type=int, default=-1, help="inputs for each target, the same ones each time")
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="folder for inputs that fail")
    parser.add_argument("--input", type=Path, help="run this file alone")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    wrong = set(options.targets) - set(NAMES)
    if wrong:
        parser.error(f"no target {', '.join(sorted(wrong))}")
    if options.input is not None:
        from tests.fuzz.targets import TARGETS

        for name in options.targets or NAMES:
            TARGETS[name](options.input.read_bytes())
        return 0
    names = options.targets or NAMES
    if not options.here:
        # what is imported is instrumented for good, and takes as long as thousands of inputs: once for all of them
        argv = [sys.executable, "-m", "tests.fuzz", "--here", "--seconds", str(options.seconds)]
        return subprocess.run(
            [*argv, "--runs", str(options.runs), "--found", str(options.found), *names], check=False
        ).returncode
    import atheris

    with atheris.instrument_imports(include=["wormhole_tw.http", "wormhole_tw.wire"]):
        import tests.fuzz.targets  # noqa: F401

    failed = []
    for name in names:
        print(f"== {name}, {options.seconds} s", flush=True)
        child = os.fork()
        if not child:  # it ends with the fuzzer
            fuzz(name, options.seconds, options.runs, options.found)
        if os.waitpid(child, 0)[1]:
            failed.append(name)
    print(f"failed: {', '.join(failed)}; the inputs are in {options.found}" if failed else "nothing was found")
    return bool(failed)


def fuzz(name: str, seconds: int, runs: int, found: Path) -> None:
    """Fuzz in this process, which ends with it."""
    import atheris

    from tests.fuzz.seeds import seeds_of
    from tests.fuzz.targets import TARGETS

    with tempfile.TemporaryDirectory() as folder:
        inputs, words = Path(folder) / "inputs", Path(folder) / "words"
        inputs.mkdir()
        for number, seed in enumerate(seeds_of(name)):
            (inputs / f"seed-{number}").write_bytes(seed)
        words.write_text("".join(f'"{word}"\n' for word in WORDS))
        found.mkdir(parents=True, exist_ok=True)
        argv = [
            sys.argv[0],
            f"-max_total_time={seconds}",
            f"-runs={runs}",
            f"-seed={1 if runs >= 0 else 0}",  # 0: another each time
            "-max_len=8192",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
            f"-artifact_prefix={found}/{name}-",
            f"-dict={words}",
            str(inputs),
        ]
        atheris.Setup(argv, TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
