"""Images without a container engine: the steps of a ``Containerfile``, done in a folder that then is ``/``.

A :class:`Root` is a folder with what a program needs of this system: ``/usr`` and the Python that runs the tests are
mounted into it, to be read; all the rest are plain files of its own.  A program is started in it by ``chroot`` in a
mount namespace of its own, so that nothing is left when it ends.  :func:`build` does the steps of a Containerfile in
such folders.  What it does not know is an error, never skipped.
"""

from __future__ import annotations

import copy
import email
import glob
import importlib.metadata
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests._support import missing, require_program

BASE_PATH = "/base/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

STEP_SECONDS = 300.0
"""How long a step may take; the longest, an install, takes five seconds where nothing else runs."""

_ENTER = """\
set -e
mount=$1 chroot=$2 root=$3; shift 3
while [ "$1" != -- ]; do
    "$mount" --rbind "$1" "$root$2"
    [ "$3" = rw ] || "$mount" -o remount,bind,ro "$root$2"
    shift 3
done
shift
exec "$chroot" "$root" "$@"
"""


def need_root() -> None:
    """End the test where this user cannot mount and change to other users."""
    if os.geteuid() != 0:
        missing("root, for a root folder of its own")
    for program in ("unshare", "mount", "chroot", "setpriv"):
        require_program(program)


class Root:
    """A folder to be ``/`` for programs.

    :param folder: new; every user can enter it

    :ivar mounts: what of this system is in there: where it is here, where there, and ``ro`` or ``rw``
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mounts: list[tuple[str, str, str]] = []
        folder.mkdir(mode=0o755)
        for name in ("bin", "sbin", "lib", "lib64"):
            here = Path("/", name)
            if here.is_symlink():
                (folder / name).symlink_to(os.readlink(here))
            elif here.is_dir():
                self.mount(str(here))
        self.mount("/usr")
        self.mount("/dev", writable=True)  # /dev/null is written to
        self.mount("/proc")
        for name in ("etc", "tmp", "run", "var", "base"):
            (folder / name).mkdir(mode=0o755)
        for name in ("ld.so.cache", "passwd", "group", "nsswitch.conf", "hosts", "ssl", "ca-certificates"):
            here = Path("/etc", name)
            if here.is_dir():
                shutil.copytree(here, folder / "etc" / name, symlinks=True)
            elif here.exists():
                shutil.copyfile(here, folder / "etc" / name)
        for prefix in {sys.base_prefix, sys.prefix}:
            if not Path(prefix).is_relative_to("/usr"):
                self.mount(prefix)
        python = folder / "base" / "bin" / "python"
        python.parent.mkdir()
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o755)

    def path(self, inside: str) -> Path:
        """The path here of one in there."""
        return self.folder / inside.lstrip("/")

    def copy(self, folder: Path) -> Root:
        """The same in another folder; its files are links to ours, which no step writes in place."""
        subprocess.run(["cp", "--archive", "--link", str(self.folder), str(folder)], check=True, timeout=STEP_SECONDS)
        other = copy.copy(self)
        other.folder = folder
        other.mounts = [*self.mounts]
        return other

    def mount(self, source: str, inside: str | None = None, *, writable: bool = False) -> None:
        """Have a folder or file of this system in there too, for what is started from now on."""
        target = self.path(inside or source)
        if Path(source).is_dir():
            target.mkdir(mode=0o755, parents=True, exist_ok=True)
        else:
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            target.touch()
        for parent in target.relative_to(self.folder).parents:
            (self.folder / parent).chmod(0o755)
        self.mounts.append((source, inside or source, "rw" if writable else "ro"))

    def command(
        self,
        argv: Sequence[str],
        *,
        user: int | None = None,
        cwd: str = "/",
        network: str | None = None,
    ) -> list[str]:
        """What to start here so that ``argv`` runs in there.

        :param user: a user and group of this number, without any right; None is root
        :param network: ``/proc/…/ns/net`` of a network, in place of this process's
        """
        inside = ["env", f"--chdir={cwd}", *argv]
        if user is not None:
            inside = [
                "setpriv",
                *(f"--reuid={user}", f"--regid={user}", "--clear-groups", "--no-new-privs"),
                *("--bounding-set=-all", "--inh-caps=-all"),
                *inside,
            ]
        outside = [] if network is None else [require_program("nsenter"), f"--net={network}"]
        mounts = [word for mount in self.mounts for word in mount]
        tools = [require_program("mount"), require_program("chroot")]
        unshare = [require_program("unshare"), "--mount", "--propagation", "private"]
        return [*outside, *unshare, "/bin/sh", "-c", _ENTER, "sh", *tools, str(self.folder), *mounts, "--", *inside]

    def run(
        self, argv: Sequence[str], *, user: int | None = None, cwd: str = "/", env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in there to its end."""
        return subprocess.run(
            self.command(argv, user=user, cwd=cwd),
            env={"PATH": BASE_PATH, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
            check=False,
        )


# Containerfiles.


@dataclass(frozen=True)
class Step:
    """An instruction: its word in capitals, what follows, and its line."""

    word: str
    rest: str
    line: int

    @property
    def words(self) -> list[str]:
        """The JSON list that follows.

        :raises ValueError: there is none
        """
        words = json.loads(self.rest)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"line {self.line}: {self.rest} is no list of words")
        return words


def parse(text: str) -> list[Step]:
    """The instructions of a Containerfile."""
    steps = []
    start, held = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or not (line.strip() or held):
            continue
        start = start if held else number
        held += line
        if held.endswith("\\"):
            held = held[:-1]
            continue
        word, _, rest = held.strip().partition(" ")
        steps.append(Step(word.upper(), rest.strip(), start))
        held = ""
    return steps


@dataclass
class Image:
    """What the steps of one stage have made.

    :ivar environ: of programs
    :ivar user: that they run as; None is root
    :ivar volumes: folders that are not part of the image
    """

    root: Root
    environ: dict[str, str] = field(default_factory=lambda: {"PATH": BASE_PATH})
    user: int | None = None
    workdir: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)


class Builder:
    """Builds images in a folder.  Steps that were done before on the same ground are not done again, as engines do.

    :param context: the folder that COPY copies from
    :param wheels: a folder of wheels in which pip finds what an index would give it
    """

    def __init__(self, folder: Path, context: Path, wheels: Path) -> None:
        self._folder = folder
        self._context = context
        self._wheels = wheels
        self._count = 0
        self._layers: dict[tuple[tuple[str, str, int], ...], Image] = {}

    def build(self, text: str) -> Image:
        """Do the steps of a Containerfile; gives its last stage."""
        named: dict[str, Image] = {}
        image: Image | None = None
        for first, *steps in _stages(parse(text)):
            match = re.fullmatch(r"python:3\.\d+-slim(?: AS (\w+))?", first.rest)
            assert match is not None, f"line {first.line}: unknown base {first.rest}"
            key: tuple[tuple[str, str, int], ...] = ()
            image = None
            for step in steps:
                # What is copied from another stage is as much part of it as the words are.
                source = re.match(r"--from=(\w+)", step.rest)
                key = (*key, (step.word, step.rest, id(named[source[1]]) if source else 0))
                if key not in self._layers:
                    image = self._above(image, changes=step.word in ("COPY", "RUN"))
                    self._do(step, image, named)
                    self._layers[key] = image
                image = self._layers[key]
            assert image is not None, f"line {first.line}: a stage without steps"
            if match[1]:
                named[match[1]] = image
        assert image is not None, "it has no FROM"
        return image

    def _above(self, image: Image | None, *, changes: bool) -> Image:
        """An image for one more step, which leaves ``image`` as it is."""
        if image is not None and not changes:
            return replace(image, environ=dict(image.environ), volumes=[*image.volumes], ports=[*image.ports])
        self._count += 1
        folder = self._folder / f"layer{self._count}"
        if image is not None:
            return replace(image, root=image.root.copy(folder))
        image = Image(Root(folder))
        image.root.mount(str(self._wheels), "/base/wheels")
        return image

    def _do(self, step: Step, image: Image, named: Mapping[str, Image]) -> None:
        match step.word:
            case "COPY":
                self._copy(step, image, named)
            case "RUN":
                argv = step.words if step.rest.startswith("[") else ["/bin/sh", "-c", step.rest]
                # No network: an index is what this step asks, and the wheels are what it would have got.
                offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/base/wheels", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
                assert image.user is None, f"line {step.line}: RUN after USER"
                done = image.root.run(argv, cwd=image.workdir, env={**offline, **image.environ})
                assert done.returncode == 0, f"line {step.line}: {step.rest}\n{done.stdout}{done.stderr}"
            case "ENV":
                image.environ |= dict(word.split("=", 1) for word in shlex.split(step.rest))  # type: ignore[misc]
            case "USER":
                user, _, group = step.rest.partition(":")
                assert user == group, f"line {step.line}: user and group have one number here"
                image.user = int(user)
            case "WORKDIR":
                image.workdir = step.rest
            case "ENTRYPOINT":
                image.entrypoint = step.words
            case "CMD":
                image.arguments = step.words
            case "VOLUME":
                image.volumes += step.words
            case "EXPOSE":
                image.ports += map(int, step.rest.split())
            case _:
                raise AssertionError(f"line {step.line}: {step.word} is not known here")

    def _copy(self, step: Step, image: Image, named: Mapping[str, Image]) -> None:
        words = step.rest.split()
        base = self._context
        if words[0].startswith("--from="):
            base = named[words.pop(0).removeprefix("--from=")].root.folder
        *sources, target = words
        for source in sources:
            found = [Path(path) for path in glob.glob(str(base / source.lstrip("/")))]
            assert found, f"line {step.line}: there is no {source}"
            for path in found:
                inside = f"{target}{path.name}" if target.endswith("/") else target
                place = image.root.path(inside)
                place.parent.mkdir(parents=True, exist_ok=True)
                if path.is_dir():
                    shutil.copytree(path, place, symlinks=True)
                else:
                    shutil.copyfile(path, place)


def _stages(steps: Sequence[Step]) -> Iterator[list[Step]]:
    assert steps
    assert steps[0].word == "FROM"
    starts = [number for number, step in enumerate(steps) if step.word == "FROM"]
    for start, end in zip(starts, [*starts[1:], len(steps)], strict=True):
        yield list(steps[start:end])


# Wheels.


def pack_dependencies(wheel: Path, folder: Path, extras: Sequence[str] = ()) -> None:
    """Pack what ``wheel`` needs (with its ``extras``) and what that needs, as it is installed here, into wheels."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = email.message_from_bytes(archive.read(metadata)).get_all("Requires-Dist") or []
    wanted = [Requirement(line) for line in lines]
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        requirement = wanted.pop()
        if requirement.marker is not None and not _holds(requirement.marker, extras):
            continue
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        found = importlib.metadata.distribution(requirement.name)
        _pack(found, folder)
        for line in found.requires or ():
            further = Requirement(line)
            if further.marker is None or _holds(further.marker, requirement.extras):
                further.marker = None
                wanted.append(further)


def _holds(marker: Marker, extras: Iterable[str]) -> bool:
    return any(marker.evaluate({"extra": extra}) for extra in ("", *extras))


def _pack(distribution: importlib.metadata.Distribution, folder: Path) -> None:
    name = re.sub(r"[-_.]+", "_", distribution.name)
    path = folder / f"{name}-{distribution.version}-py3-none-any.whl"
    if path.exists():
        return
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as wheel:
        for file in distribution.files or ():
            # Without tests, of which Twisted has as much as of the rest: pip would compile all of them.
            if not file.as_posix().startswith("..") and not {"__pycache__", "test", "tests"} & {*file.parts}:
                wheel.write(file.locate(), file.as_posix())  # type: ignore[arg-type]
