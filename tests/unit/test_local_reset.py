"""Who is impatient while the data is deleted has none of it left, and not half."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def test_an_interrupt_while_the_data_is_deleted_leaves_no_half_of_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for number in range(6_000):
        path = home / ("postgres", "kafka")[number % 2] / str(number % 50) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (home / "demo").touch()
    resetting = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", "reset", "--yes"],
        env={**os.environ, "KURSNETT_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while (home / "postgres" / "0").exists():
        assert time.monotonic() < deadline
    resetting.send_signal(signal.SIGINT)
    resetting.wait(30)
    assert not home.exists()
