"""What the service was built from, read without the git program."""

from __future__ import annotations

import os
import subprocess
import zlib
from pathlib import Path

import pytest

from tests._support import require_program
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


def test_a_repository_made_by_git(tmp_path: Path) -> None:
    git = require_program("git")
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GIT_AUTHOR_NAME": "Ann",
        "GIT_AUTHOR_EMAIL": "ann@example.test",
        "GIT_AUTHOR_DATE": "2024-05-06T07:08:09+00:00",
        "GIT_COMMITTER_NAME": "Ann",
        "GIT_COMMITTER_EMAIL": "ann@example.test",
        "GIT_CONFIG_NOSYSTEM": "1",
    }

    def run(*arguments: str) -> str:
        done = subprocess.run([git, *arguments], cwd=tmp_path, env=environ, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    run("init", "-q", "-b", "trunk", ".")
    run("commit", "-q", "--allow-empty", "-m", "First")
    run("commit", "-q", "--allow-empty", "-m", "Second")
    expected = Commit(
        revision=run("rev-parse", "HEAD"),
        branch="trunk",
        message="Second",
        time="2024-05-06T07:08:09Z",
        author_name="Ann",
        author_email="ann@example.test",
    )
    assert read_git(tmp_path) == expected
    run("gc", "-q")  # now both the ref and the commit are packed
    assert not (tmp_path / ".git/refs/heads/trunk").exists()
    packed = read_git(tmp_path)
    assert packed.revision == expected.revision
    assert packed.branch == "trunk"
    assert packed.message in ("Second", "")  # git may store a commit as a difference
