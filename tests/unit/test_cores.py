"""How many threads a computation gets, where the process may not use the whole machine."""

import os
import subprocess
import sys

import pytest

from mrlclient.providers._cores import physical_cores, quota, usual_threads


@pytest.mark.parametrize(
    ("content", "processors"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("10000 100000\n", 1),
        ("", None),
        ("200000", None),
        ("much 100000", None),
        ("1 0", None),
    ],
)
def test_a_containers_share(content, processors, tmp_path):
    file = tmp_path / "cpu.max"
    file.write_text(content)
    assert quota(file) == processors


def test_no_container(tmp_path):
    assert quota(tmp_path / "cpu.max") is None


def test_two_threads_of_one_core_are_one(tmp_path):
    for number, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        (tmp_path / str(number)).write_text(f"{siblings}\n")
    topology = str(tmp_path / "{}")
    assert physical_cores({0, 1, 2, 3}, topology) == 2
    assert physical_cores({0, 2}, topology) == 1
    # Where the system does not tell.
    assert physical_cores({0, 1, 9}, topology) == 3


def test_whoever_has_the_whole_machine_leaves_it_to_the_runtime():
    assert 0 <= usual_threads() <= (os.cpu_count() or 1)


@pytest.mark.skipif(sys.platform != "linux" or (os.cpu_count() or 1) < 2, reason="needs Linux and two processors")
def test_one_processor_of_several_is_one_thread():
    code = (
        "import os; from mrlclient.providers._cores import usual_threads;"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(usual_threads())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "1"
