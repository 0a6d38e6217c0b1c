"""What the service was built from, read without the git program."""

from __future__ import annotations

import os
import subprocess
import tracemalloc
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests._support import require_program, sized
from wormhole_tw.agent.git_objects import MAX_COMMIT
from wormhole_tw.agent.release import Commit, find_release, read_git

REVISION = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40
COMMIT = b"""tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904
author Ann Example <ann@example.test> 1700000000 +0130
committer Bob <bob@example.test> 1700000001 +0000

Serve the front page

With a body.
"""


def put(path: Path, data: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)


def put_commit(git: Path, revision: str = REVISION, text: bytes = COMMIT) -> None:
    put(git / "objects" / revision[:2] / revision[2:], zlib.compress(b"commit %d\0" % len(text) + text))


def test_nothing_is_known() -> None:
    assert find_release({}) is None


def test_no_repository(tmp_path: Path) -> None:
    assert find_release({}, tmp_path) is None
    assert read_git(tmp_path) == Commit()


def test_a_branch_and_its_commit(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    put(git / "HEAD", "ref: refs/heads/feature/x\n")
    put(git / "refs/heads/feature/x", REVISION + "\n")
    put(git / "refs/heads/another", REVISION + "\n")
    put_commit(git)
    release = find_release({}, tmp_path)
    assert release is not None
    assert release.id == release.vcs_revision == REVISION
    assert release.branch == "feature/x"
    assert release.description == release.vcs_revision_message == "Serve the front page\n\nWith a body."
    assert release.vcs_type == "git"
    assert release.vcs_revision_time == "2023-11-14T23:43:20+01:30"
    assert release.vcs_revision_author_name == "Ann Example"
    assert release.vcs_revision_author_email == "ann@example.test"


def test_variables_win_and_their_names_can_be_chosen(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    put(git / "HEAD", REVISION)
    put_commit(git)
    environ = {
        "FLY_RELEASE_ID_VAR": "SLUG",
        "SLUG": "v42",
        "FLY_RELEASE_ID": "not this",
        "FLY_RELEASE_DESC": "Deploy",
        "FLY_RELEASE_BRANCH_VAR": "",
        "FLY_RELEASE_BRANCH": "main",
    }
    release = find_release(environ, tmp_path)
    assert release is not None
    assert (release.id, release.description, release.branch) == ("v42", "Deploy", "main")
    assert release.vcs_revision == REVISION
    assert release.vcs_revision_message.startswith("Serve")


def test_a_detached_head_finds_the_first_branch_that_points_at_it(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    put(git / "HEAD", REVISION)
    put(git / "refs/heads/aaa", OTHER)
    put(
        git / "packed-refs", f"# pack-refs with: peeled\n{REVISION} refs/heads/zzz\n^{OTHER}\n{REVISION} refs/tags/v1\n"
    )
    assert read_git(tmp_path) == Commit(revision=REVISION, branch="zzz")


def test_many_packed_refs_take_little_memory(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    put(git / "HEAD", REVISION)
    builds = "".join(f"{OTHER} refs/tags/build-{number}\n" for number in range(60_000))
    put(git / "packed-refs", f"{builds}{REVISION} refs/heads/zzz\n{REVISION} refs/heads/yyy\n")
    tracemalloc.start()
    try:
        assert read_git(tmp_path) == Commit(revision=REVISION, branch="yyy")
        assert tracemalloc.get_traced_memory()[1] < len(builds) / 2
    finally:
        tracemalloc.stop()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    git.mkdir()
    os.mkfifo(git / "HEAD")
    assert read_git(tmp_path) == Commit()
    (git / "HEAD").unlink()
    put(git / "HEAD", "ref: refs/heads/main")
    os.mkfifo(git / "packed-refs")
    assert read_git(tmp_path) == Commit()


@pytest.mark.parametrize("zone", [b"+5130", b"-7700", b"+2400"])
def test_a_time_zone_that_is_none_costs_only_the_time(tmp_path: Path, zone: bytes) -> None:
    git = tmp_path / ".git"
    put(git / "HEAD", REVISION)
    text = COMMIT.replace(b"+0130", zone)
    assert text != COMMIT
    put_commit(git, text=text)
    commit = read_git(tmp_path)
    assert (commit.author_name, commit.time) == ("Ann Example", "")
    assert commit.message


def test_a_packed_ref(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    put(git / "HEAD", "ref: refs/heads/main")
    put(git / "packed-refs", f"{REVISION} refs/heads/main\n")
    assert read_git(tmp_path) == Commit(revision=REVISION, branch="main")


def test_a_linked_working_tree(tmp_path: Path) -> None:
    git = tmp_path / "repo" / ".git"
    put(git / "refs/heads/side", REVISION)
    put(git / "worktrees/w/HEAD", "ref: refs/heads/side")
    put(git / "worktrees/w/commondir", "../..\n")
    put_commit(git)
    tree = tmp_path / "w"
    put(tree / ".git", f"gitdir: {git / 'worktrees/w'}\n")
    commit = read_git(tree)
    assert (commit.revision, commit.branch, commit.author_name) == (REVISION, "side", "Ann Example")


@pytest.mark.parametrize(
    "head", ["", "ref: refs/heads/none", "ref: refs/../../etc/passwd", "ref: refs/heads/loop", "\0\xff", "ref: x"]
)
def test_a_broken_repository_is_no_release(tmp_path: Path, head: str) -> None:
    git = tmp_path / ".git"
    put(git / "HEAD", head)
    put(git / "refs/heads/loop", "ref: refs/heads/loop")
    assert read_git(tmp_path) == Commit()


@pytest.mark.parametrize("data", [b"", b"junk", zlib.compress(b"tree 4\0abcd"), zlib.compress(COMMIT)[:20]])
def test_a_broken_object_leaves_the_revision(tmp_path: Path, data: bytes) -> None:
    git = tmp_path / ".git"
    put(git / "HEAD", REVISION)
    put(git / "objects" / REVISION[:2] / REVISION[2:], data)
    commit = read_git(tmp_path)
    assert commit.revision == REVISION
    assert commit.author_name == ""


def test_long_and_strange_text_fits_a_hello(tmp_path: Path) -> None:
    from wormhole_tw.wire.messages import Hello, encode

    git = tmp_path / ".git"
    put(git / "HEAD", REVISION)
    text = COMMIT.replace(b"Ann Example", "😀".encode() * 400) + "😀".encode() * 9000 + b"\xff\xfe"
    put_commit(git, text=text)
    strange = os.fsdecode(b"\xff" * 4000)
    release = find_release({"FLY_RELEASE_ID": strange, "FLY_RELEASE_BRANCH": "😀" * 4000}, tmp_path)
    assert release is not None
    assert len(encode(Hello(role="agent", versions=[1], token="t", instance=b"i" * 16, generation=1, release=release)))


def test_a_huge_object_is_not_unpacked_whole(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    put(git / "HEAD", REVISION)
    put_commit(git, text=COMMIT + b"x" * 50_000_000)
    assert len(read_git(tmp_path).message) < 100_000


class Repository:
    """A repository of the real git, and what that says of it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._git = require_program("git")
        folder.mkdir(exist_ok=True)
        self.run("init", "-q", "-b", "trunk", *options, ".")

    def run(self, *arguments: str, at: Path | None = None, stdin: bytes = b"", **changes: str) -> str:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "GIT_AUTHOR_NAME": "Ann",
            "GIT_AUTHOR_EMAIL": "ann@example.test",
            "GIT_AUTHOR_DATE": "2024-05-06T07:08:09+00:00",
            "GIT_COMMITTER_NAME": "Bob",
            "GIT_COMMITTER_EMAIL": "bob@example.test",
            "GIT_CONFIG_NOSYSTEM": "1",
            **changes,
        }
        done = subprocess.run(
            [self._git, *arguments], cwd=at or self.folder, env=environ, check=True, capture_output=True, input=stdin
        )
        return done.stdout.decode("utf-8").strip()

    def commit(self, message: str, *options: str, **changes: str) -> str:
        self.run("commit", "-q", "--allow-empty", *options, "-m", message, **changes)
        return self.run("rev-parse", "HEAD")

    def said(self, at: Path | None = None, branch: str = "trunk") -> Commit:
        """The same by git itself."""
        shown = self.run("log", "-1", "--format=%H%x00%B%x00%aI%x00%an%x00%ae", at=at).split("\0")
        revision, message, time, name, email = shown
        time = time.replace("+00:00", "Z")
        return Commit(revision, branch, message.strip(), time, name, email)


@pytest.fixture
def git(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repo")


def test_a_repository_made_by_git(git: Repository) -> None:
    git.commit("First")
    git.commit("Second\n\nWith a body,\nof two lines")
    assert read_git(git.folder) == git.said()
    assert read_git(git.folder).message == "Second\n\nWith a body,\nof two lines"
    git.run("gc", "-q")  # now both the ref and the commit are packed
    assert not (git.folder / ".git/refs/heads/trunk").exists()
    assert read_git(git.folder) == git.said()
    git.commit("Third, loose beside the pack")
    assert read_git(git.folder) == git.said()


def test_a_clone_and_a_shallow_one(git: Repository, tmp_path: Path) -> None:
    for number in range(3):
        git.commit(f"Number {number}")
    for options in ((), ("--depth=1",), ("--shared",), ("--bare",)):
        there = tmp_path / f"clone{len(os.listdir(tmp_path))}"
        git.run(
            "clone",
            "-q",
            *options,
            f"file://{git.folder}" if options == ("--depth=1",) else str(git.folder),
            str(there),
        )
        if options == ("--bare",):
            assert read_git(there) == Commit()  # no working tree: nothing was built from it
        else:
            assert read_git(there) == git.said(at=there)


@pytest.mark.parametrize(
    ("kind", "bases"),
    [
        ("sha1", "by offset"),
        ("sha256", "by name"),
        pytest.param("sha1", "by name", marks=pytest.mark.full),
        pytest.param("sha256", "by offset", marks=pytest.mark.full),
    ],
)
def test_commits_that_are_stored_as_differences(tmp_path: Path, kind: str, bases: str) -> None:
    git = Repository(tmp_path / "repo", f"--object-format={kind}")
    body = "\n".join(f"What was changed, line {line}, and why that was good" for line in range(40))
    for number in range(14):
        git.commit(f"Number {number}\n\n{body}\n{number * 7919}")
    git.run("-c", f"repack.useDeltaBaseOffset={'true' if bases == 'by offset' else 'false'}", "repack", "-adfq")
    commits = git.run("rev-list", "trunk").split()
    asked = "".join(f"{commit}\n" for commit in commits).encode()
    deltas = git.run("cat-file", "--batch-check=%(deltabase)", stdin=asked).split()
    assert len(set(deltas)) > 1, "git has stored none of them as a difference"
    for commit in commits:
        git.run("update-ref", "--no-deref", "HEAD", commit)
        branch = "trunk" if commit == commits[0] else ""
        assert read_git(git.folder) == git.said(branch=branch)


def test_a_linked_working_tree_and_a_detached_head_of_git(git: Repository, tmp_path: Path) -> None:
    first = git.commit("First")
    git.run("worktree", "add", "-q", "-b", "side/line", str(tmp_path / "tree"))
    git.commit("Second")
    assert read_git(tmp_path / "tree") == git.said(at=tmp_path / "tree", branch="side/line")
    git.run("pack-refs", "--all")
    assert read_git(tmp_path / "tree").branch == "side/line"
    git.run("checkout", "-q", "--detach", first)
    assert read_git(git.folder) == git.said(branch="side/line")
    git.run("tag", "-a", "v1", "-m", "One")
    git.run("pack-refs", "--all")
    git.run("checkout", "-q", "v1")
    assert read_git(git.folder).revision == first


def test_a_submodule_of_git(git: Repository, tmp_path: Path) -> None:
    git.commit("First")
    outer = Repository(tmp_path / "outer")
    outer.run("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(git.folder), "inner")
    assert (outer.folder / "inner" / ".git").is_file()
    assert read_git(outer.folder / "inner") == git.said()


def test_a_message_in_another_encoding(git: Repository) -> None:
    git.run(
        "-c",
        "i18n.commitEncoding=ISO-8859-1",
        "commit",
        "-q",
        "--allow-empty",
        "-F",
        "-",
        stdin="Grüße".encode("latin-1"),
    )
    assert read_git(git.folder).message == "Grüße"


def test_a_signed_commit(git: Repository) -> None:
    """Its head holds lines that are not fields, and an empty one that is none."""
    tree = git.run("write-tree")
    text = (
        f"tree {tree}\n"
        "author Ann <ann@example.test> 1700000000 -0330\n"
        "committer Bob <bob@example.test> 1700000000 +0000\n"
        "gpgsig -----BEGIN PGP SIGNATURE-----\n"
        " \n"
        " author Eve <eve@example.test> 1 +0000\n"
        " -----END PGP SIGNATURE-----\n"
        "\nSigned\n"
    )
    revision = git.run("hash-object", "-t", "commit", "-w", "--stdin", stdin=text.encode())
    git.run("update-ref", "refs/heads/trunk", revision)
    commit = read_git(git.folder)
    assert (commit.message, commit.author_name, commit.time) == ("Signed", "Ann", "2023-11-14T18:43:20-03:30")


@settings(max_examples=sized(30, 1000))
@given(data=st.data())
def test_a_damaged_pack_never_raises(packed: Path, data: st.DataObject) -> None:
    (pack,) = (packed / ".git/objects/pack").glob("*.pack")
    whole = pack.read_bytes()
    pack.chmod(0o600)
    place = data.draw(st.integers(12, len(whole) - 1))
    try:
        pack.write_bytes(
            whole[:place] + data.draw(st.binary(max_size=8)) + whole[place + data.draw(st.integers(0, 8)) :]
        )
        commit = read_git(packed)
    finally:
        pack.write_bytes(whole)
    assert len(commit.revision) == 40
    assert len(commit.message) <= MAX_COMMIT


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose HEAD is stored as a difference."""
    git = Repository(tmp_path_factory.mktemp("git") / "repo")
    body = "\n".join(f"What was changed, line {line}" for line in range(40))
    for number in range(8):
        git.commit(f"Number {number}\n\n{body}\n{number * 7919}")
    git.run("repack", "-adfq")
    for commit in git.run("rev-list", "trunk").split():
        base = git.run("cat-file", "--batch-check=%(deltabase)", stdin=commit.encode())
        if set(base) != {"0"}:
            git.run("update-ref", "--no-deref", "HEAD", commit)
            return git.folder
    raise AssertionError("git has stored none of them as a difference")


def test_a_circle_of_differences_has_an_end(tmp_path: Path) -> None:
    """A pack in which a commit is the difference to itself."""
    git = tmp_path / ".git"
    name = bytes.fromhex(REVISION)
    entry = bytes([0x70]) + name + zlib.compress(b"")
    put(git / "HEAD", REVISION)
    put(git / "objects/pack/pack-1.pack", b"PACK" + bytes(8) + entry)
    fanout = b"".join((1 if first >= name[0] else 0).to_bytes(4, "big") for first in range(256))
    offset = (12).to_bytes(4, "big")
    put(git / "objects/pack/pack-1.idx", b"\xfftOc\0\0\0\2" + fanout + name + bytes(4) + offset)
    assert read_git(tmp_path) == Commit(revision=REVISION)
