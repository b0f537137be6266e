"""Processes: devices are shared out, and nobody outlives the sweep."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cryoem.sweeps.jobs import Jobs
from cryoem.sweeps.workers import Processes, Workers, last_words, shares

ECHO = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ['OMP_NUM_THREADS'])"
PATIENT = """
import signal, sys, time
def stop(*_):
    open(sys.argv[1] + ".stopped", "w")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
open(sys.argv[1], "w")
time.sleep(60)
"""


def wait_for(path: Path) -> None:
    until = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < until, f"{path} does not appear"
        time.sleep(0.02)


def ended(workers: Workers, name: str) -> int:
    while (status := workers.status(name)) is None:
        time.sleep(0.02)
    return status


@pytest.mark.parametrize(
    ("devices", "parallel", "expected"),
    [
        ("0 1 2 3", 2, ["0,1", "2,3"]),
        ("0 1 2", 2, ["0", "1,2"]),
        ("4", 2, ["4", "4"]),
        ("", 2, ["", ""]),
    ],
)
def test_devices_are_shared_out(devices: str, parallel: int, expected: list[str]) -> None:
    assert shares(devices.split(), parallel) == expected


def test_each_process_sees_its_own_devices_and_a_slot_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    workers = Processes(2, tmp_path, ["0", "1"], {})
    command = [sys.executable, "-c", ECHO]
    for name in ("a", "b"):
        workers.start(name, command, "")
    assert [ended(workers, name) for name in ("a", "b")] == [0, 0]
    workers.start("c", command, "")
    assert ended(workers, "c") == 0
    seen = [workers.last_words(name).split()[0] for name in ("a", "b", "c")]
    assert seen == ["0", "1", "0"]


def test_who_is_asked_to_stop_may_finish_what_it_is_at(tmp_path: Path) -> None:
    workers = Processes(1, tmp_path / "logs", [], {})
    mark = tmp_path / "mark"
    workers.start("a", [sys.executable, "-c", PATIENT, str(mark)], "")
    wait_for(mark)
    workers.stop_all()
    assert Path(f"{mark}.stopped").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is needed")
def test_processes_stop_when_the_sweep_is_killed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    parent = f"""
import sys, time
from pathlib import Path
from cryoem.sweeps.jobs import Jobs
from cryoem.sweeps.workers import Processes
workers = Processes(1, Path({str(tmp_path)!r}), [], {{}})
workers.start("a", [sys.executable, "-c", {PATIENT!r}, {str(mark)!r}], "")
time.sleep(60)
"""
    root = Path(__file__).resolve().parents[3]
    sweep = subprocess.Popen([sys.executable, "-c", parent], cwd=root)
    wait_for(mark)
    sweep.kill()
    sweep.wait()
    wait_for(Path(f"{mark}.stopped"))


def test_the_last_words_are_the_message_or_the_last_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_words(log) == ""
    log.write_text("begins\ntrain.py: model.beta=-1: must not be negative\nTry another\n")
    assert last_words(log) == "train.py: model.beta=-1: must not be negative\nTry another"
    log.write_text("Traceback\n  File train.py\nMemoryError: no room\n")
    assert last_words(log) == "MemoryError: no room"


def test_a_job_of_submitit_runs_and_tells_how_it_ended(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    jobs = Jobs(2, tmp_path, {"GROUP": "g"}, "local", {"timeout_min": 5})
    fail = "import os, sys; print('train.py: ' + os.environ['GROUP']); sys.exit(2)"
    number = jobs.start("good", [sys.executable, "-c", "pass"], "")
    jobs.start("bad", [sys.executable, "-c", fail], "")
    assert [ended(jobs, name) for name in ("good", "bad")] == [0, 2]
    assert jobs.last_words("bad") == "train.py: g"
    # who goes on knows a job by its number, and submits again one that is over
    again = Jobs(2, tmp_path, {}, "local", {"timeout_min": 5})
    assert again.start("good", [sys.executable, "-c", "pass"], number) != number
    assert ended(again, "good") == 0
