"""Users without a home, as containers have them: a working cache, and one sentence for the data."""

import fcntl
import json
import os
import pwd
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from neva.cachedir import CACHE, PREFIX, cache_dir, home
from neva.commands.serve import data_folder
from neva.errors import NevaError

STRANGER = """
import json, os, stat
from neva.cachedir import cache_dir
from neva.commands.serve import data_folder
from neva.errors import NevaError
if os.getuid() == 0:
    os.setgroups([]), os.setgid(12345), os.setuid(12345)
try:
    said = str(data_folder())
except NevaError as error:
    said = str(error)
cache = cache_dir()
cache.mkdir()
mode = stat.filemode(cache.parent.stat().st_mode)
print(json.dumps([said, str(cache), mode, cache == cache_dir()]))
"""


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files; the home is a file, so that root cannot write there either."""
    (tmp_path / "home").touch()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for variable in (CACHE, "XDG_DATA_HOME"):
        monkeypatch.setenv(variable, "")  # what the code sets is undone
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


def aged(folder: Path) -> Path:
    """As a process left it that began an hour ago."""
    folder.mkdir()
    os.utime(folder, (0, folder.stat().st_mtime - 3600))
    return folder


@pytest.mark.parametrize("where", [None, "/", "/root"])
def test_a_stranger_in_a_container(where: str | None) -> None:
    """For real: a user id that the system does not know, where these tests are root's."""
    if os.getuid() != 0 and where is None:
        pytest.skip("this user is known to the system")
    env = {k: v for k, v in os.environ.items() if k not in ("HOME", CACHE, "XDG_DATA_HOME")}
    env |= {} if where is None else {"HOME": where}
    done = subprocess.run(
        [sys.executable, "-c", STRANGER], env=env, capture_output=True, text=True, check=True
    )
    said, cache, mode, again = json.loads(done.stdout)
    assert said.startswith(f"{Path(where or '/') / '.local/share/neva'} cannot be written")
    assert "--data FOLDER" in said and "XDG_DATA_HOME" in said
    assert Path(cache).parent.name.startswith(PREFIX) and mode == "drwx------" and again
    assert done.stderr.count(CACHE) == 1
    assert not Path(cache).parent.exists(), "it goes with the process"


def test_serve_says_one_sentence(nowhere: Path) -> None:
    words = [sys.executable, "-m", "neva", "serve"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "--data FOLDER" in done.stderr and len(done.stderr.splitlines()) == 1


def test_what_the_user_names_is_taken(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, folder in ((CACHE, cache_dir), ("XDG_DATA_HOME", data_folder)):
        monkeypatch.setenv(variable, str(nowhere))
        assert folder() == nowhere / "neva"
    assert list(nowhere.iterdir()) == []


def test_a_home_that_can_be_written_is_taken(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(nowhere))
    assert cache_dir() == nowhere / ".cache" / "neva"
    assert data_folder() == nowhere / ".local" / "share" / "neva"
    assert list(nowhere.iterdir()) == []


def test_a_filled_cache_is_read_where_nothing_can_be_added(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(nowhere))
    monkeypatch.setattr("neva.cachedir.writable", lambda _: False)
    (nowhere / ".cache" / "neva" / "model").mkdir(parents=True)
    assert cache_dir() == nowhere / ".cache" / "neva"


def test_nobody_knows_this_user(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert home() == Path("/")
    assert os.environ["HOME"] == "/", "OpenVINO is imported by a child"


def test_the_temporary_cache(nowhere: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = cache_dir()
    assert made.parent.parent == nowhere
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    assert made == cache_dir() == Path(os.environ[CACHE]) / "neva"
    (record,) = caplog.records
    assert CACHE in record.getMessage() and str(made.parent) in record.getMessage()


def test_what_killed_processes_left_is_deleted(nowhere: Path) -> None:
    left = aged(nowhere / f"{PREFIX}left")
    live = aged(nowhere / f"{PREFIX}live")
    new = nowhere / f"{PREFIX}new"
    new.mkdir()
    elsewhere = aged(nowhere / "elsewhere")
    (nowhere / f"{PREFIX}link").symlink_to(elsewhere)
    lock = os.open(live, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_SH)
    cache_dir()
    os.close(lock)
    assert not left.exists()
    assert live.exists() and new.exists() and elsewhere.exists()


def test_no_place_at_all(nowhere: Path) -> None:
    nowhere.rmdir()
    with pytest.raises(NevaError, match=f"set {CACHE} to a folder"):
        cache_dir()
