"""What Triton's models do beside answering, without a Triton. With one: test_triton_server.py."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from neva.deploy.triton.inner import CODES, marked, unmarked

CHILD = """
import os, sys, threading, time
from neva.deploy.triton.orphan import end_with_parent
end_with_parent(0.05)
print(os.getpid(), flush=True)
threading.Thread(target=time.sleep, args=(60,)).start()  # one that Python would wait for
"""
PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1]])
time.sleep(60)
"""


def alive(pid: int) -> bool:
    """Whether it runs; one that nobody has waited for does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_model_ends_with_its_triton() -> None:
    words = [sys.executable, "-c", PARENT, CHILD]
    parent = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.3)
        assert alive(child)
    finally:
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


@pytest.mark.parametrize("code", CODES)
def test_an_errors_code_goes_across(code: str) -> None:
    sentence = "sampling_param_top_p: Input should be less than or equal to 1"
    assert unmarked(marked(code, sentence)) == (code, sentence)


def test_what_triton_says_has_no_code() -> None:
    said = "Model neva is not ready: unloading"
    assert unmarked(said) == ("INTERNAL", said)
