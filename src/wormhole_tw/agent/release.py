"""What the agent's service was built from: from the environment, else from ``.git``, without the git program.

Containers hold no git, and an agent starts no programs of its own accord; so the few files that are needed are read
here: ``HEAD``, the refs (loose and packed), and the one commit object (loose or in a pack).  Whatever cannot be read is
left empty: a release is for people to look at, and never a reason not to start.  A repository that keeps its refs in
tables (reftable) is left unread.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from wormhole_tw.agent.git_objects import read_commit
from wormhole_tw.wire.messages import Release, clip

__all__ = ["Commit", "find_release", "read_git"]

MAX_FILE = 1024 * 1024  # bytes of HEAD, a ref or a .git file that are read; each is far under 1 KiB
MAX_PACKED_REFS = 32 * 1024 * 1024  # bytes: half a million refs
_MAX_REF = 8192  # bytes of a line of them: git's own limit is the file system's, 4 KiB
_MAX_REF_HOPS = 5  # git's own limit of symbolic refs that point at one another

_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PERSON = re.compile(r"(?P<name>.*?) ?<(?P<email>[^>]*)>(?: (?P<time>\d{1,12}) (?P<zone>[+-]\d{4}))?")


@dataclass(frozen=True, slots=True)
class Commit:
    """What ``.git`` says of the commit that is checked out; empty where it cannot be read."""

    revision: str = ""
    branch: str = ""
    message: str = ""
    time: str = ""
    author_name: str = ""
    author_email: str = ""


def find_release(environ: Mapping[str, str], folder: Path | str | None = None) -> Release | None:
    """The release from the environment and from ``folder``/``.git``; None where both know nothing.

    ``FLY_RELEASE_ID_VAR``, ``FLY_RELEASE_DESC_VAR`` and ``FLY_RELEASE_BRANCH_VAR`` name the variables to read (default
    ``FLY_RELEASE_ID``, ``FLY_RELEASE_DESC``, ``FLY_RELEASE_BRANCH``).  The id falls back to the revision, the
    description to its message, the branch to the one that HEAD stands on, else the first that points at it.
    """
    commit = read_git(Path(folder)) if folder is not None else Commit()

    def named(which: str) -> str:
        return environ.get(environ.get(f"FLY_RELEASE_{which}_VAR") or f"FLY_RELEASE_{which}") or ""

    release = Release(
        id=_fit(named("ID") or commit.revision, 1024, 1024),
        branch=_fit(named("BRANCH") or commit.branch, 1024, 1024),
        description=_fit(named("DESC") or commit.message, 1024, 2048),
        vcs_type="git" if commit.revision else "",
        vcs_revision=commit.revision,
        vcs_revision_message=_fit(commit.message, 1024, 2048),
        vcs_revision_time=commit.time,
        vcs_revision_author_name=_fit(commit.author_name, 255, 1020),
        vcs_revision_author_email=_fit(commit.author_email, 255, 1020),
    )
    return None if release == Release() else release


def _fit(text: str, characters: int, octets: int) -> str:
    """Foreign text, cut so that a whole release stays under 9 KiB of a HELLO's 16; what is no text becomes ``?``."""
    text = text.encode("utf-8", "replace")[:octets].decode("utf-8", "ignore")
    return clip(text, characters)


def read_git(folder: Path) -> Commit:
    """Read the checked-out commit of the working tree ``folder``. Never raises: what is not there is empty."""
    try:
        git, common = _git_folders(folder / ".git")
        head, branch = _head(git, common)
    except (OSError, ValueError):
        return Commit()
    if not branch:
        try:
            branch = _first_branch(common, head)
        except (OSError, ValueError):
            branch = ""
    try:
        message, time, name, email = _parse_commit(read_commit(common / "objects", head))
    except (OSError, ValueError, zlib.error, struct.error, IndexError):
        return Commit(revision=head, branch=branch)
    return Commit(revision=head, branch=branch, message=message, time=time, author_name=name, author_email=email)


def _read(path: Path) -> str:
    if not path.is_file():  # a pipe, say, would be waited for
        raise FileNotFoundError(path)
    with path.open("rb") as file:
        return file.read(MAX_FILE).decode("utf-8", "replace")


def _git_folders(git: Path) -> tuple[Path, Path]:
    """The folder of HEAD and the one of refs and objects; they differ in a linked working tree (git-worktree)."""
    if git.is_file():
        keyword, _, target = _read(git).strip().partition(": ")
        if keyword != "gitdir":
            raise ValueError("no gitdir")
        git = git.parent / target
    try:
        common = git / _read(git / "commondir").strip()
    except OSError:
        common = git
    return git, common


def _head(git: Path, common: Path) -> tuple[str, str]:
    """(revision, branch): the branch that HEAD stands on, empty where it is detached."""
    text = _read(git / "HEAD").strip()
    branch = ""
    for _ in range(_MAX_REF_HOPS):
        if _ID.fullmatch(text):
            return text, branch
        if not text.startswith("ref: refs/") or ".." in text:
            break
        name = text.removeprefix("ref: ").strip()
        branch = name.removeprefix("refs/heads/") if name.startswith("refs/heads/") else ""
        text = _ref(common, name)
    raise ValueError("no commit")


def _ref(common: Path, name: str) -> str:
    try:
        return _read(common / name).strip()
    except OSError:
        return next((revision for other, revision in _packed_refs(common) if other == name), "")


def _packed_refs(common: Path) -> Iterator[tuple[str, str]]:
    """(name, revision) of what is packed, a line at a time: with a ref for each build there are many."""
    path = common / "packed-refs"
    if not path.is_file():
        return
    left = MAX_PACKED_REFS
    with path.open("rb") as file:
        while left > 0 and (line := file.readline(_MAX_REF)):
            left -= len(line)
            revision, _, name = line.decode("utf-8", "replace").rstrip("\r\n").partition(" ")
            if _ID.fullmatch(revision) and name:  # not the comment at the head, nor ^peeled tags
                yield name, revision


def _first_branch(common: Path, head: str) -> str:
    """The name of the first branch that points at a commit, loose ones first; empty where none does."""
    heads = common / "refs" / "heads"
    loose = sorted(path for path in heads.rglob("*") if path.is_file()) if heads.is_dir() else []
    for path in loose:
        if _read(path).strip() == head:
            return path.relative_to(heads).as_posix()
    packed = (
        name.removeprefix("refs/heads/")
        for name, revision in _packed_refs(common)
        if revision == head and name.startswith("refs/heads/")
    )
    return min((name for name in packed if heads / name not in loose), default="")


def _parse_commit(data: bytes) -> tuple[str, str, str, str]:
    """(message, author's time in RFC 3339, author's name, author's address)."""
    head, _, message = _decode(data).partition("\n\n")
    time = name = email = ""
    for line in head.splitlines():
        if line.startswith("author "):
            person = _PERSON.match(line.removeprefix("author "))
            if person:
                name, email = person["name"], person["email"]
                if person["time"]:
                    time = _rfc3339(int(person["time"]), person["zone"])
            break
    return message.strip(), time, name, email


def _decode(data: bytes) -> str:
    """The text of a commit, by the encoding that its head names; UTF-8 where it names none, or none that we know."""
    named = re.search(rb"^encoding ([A-Za-z0-9._-]{1,40})$", data.partition(b"\n\n")[0], re.MULTILINE)
    if named is not None:
        try:
            return data.decode(named[1].decode("ascii"), "replace")
        except (LookupError, ValueError):
            pass
    return data.decode("utf-8", "replace")


def _rfc3339(seconds: int, zone: str) -> str:
    minutes = int(zone[1:3]) * 60 + int(zone[3:5])
    try:  # there are commits of +5130, which is no time zone, and the rest of them is good
        offset = timezone(timedelta(minutes=-minutes if zone[0] == "-" else minutes)) if minutes else UTC
        return datetime.fromtimestamp(seconds, offset).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return ""
