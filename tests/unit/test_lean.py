"""A server holds no library of the command line: each costs it megabytes for as long as it lives."""

import subprocess
import sys

import pytest

HEAVY = {"cyclopts", "rich", "pygments", "stdnum"}


def brought_in(words: str) -> set[str]:
    """Which of the heavy libraries a Python has after this."""
    told = subprocess.run(
        [sys.executable, "-c", f"{words}; import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return HEAVY & set(told.stdout.split())


@pytest.mark.parametrize("service", ["catalogue", "enrolment", "notifier"])
def test_a_server_is_without_the_libraries_of_the_command_line(service: str) -> None:
    assert brought_in(f"import services.{service}.__main__") == set()


def test_the_command_line_has_them_all_the_same() -> None:
    assert {"cyclopts", "rich"} <= brought_in("import services.notifier.operating, rich.console")
