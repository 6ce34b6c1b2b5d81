"""What the installer says when it cannot go on; it is run by whatever Python the system has."""

import sys

import pytest

from deploy import install


def test_an_old_python_is_told_which_one_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Version(tuple[int, ...]):
        major, minor = 3, 9

    monkeypatch.setattr(sys, "version_info", Version((3, 9, 2)))
    assert install.main() == 1
    assert "Python 3.9 is too old; Kursnett needs 3.11 or newer." in capsys.readouterr().err


def test_a_stop_half_way_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(wanted: str) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(install, "fingerprint", lambda: "another")
    monkeypatch.setattr(install, "install", stopped)
    assert install.main() == 1
    assert "Run the same command again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("ERROR: Could not install packages: [Errno 28] No space left on device", "The disk is full."),
        ("WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError'", "cannot be reached"),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "not the one that the lock names",
        ),
        ("ERROR: No matching distribution found for aiokafka==0.14.0", "gives no file"),
        ("ERROR: something new", "something new"),
    ],
)
def test_each_failure_of_pip_has_its_own_sentence(words: str, told: str) -> None:
    what, mend = install.diagnosis([words])
    assert told in what
    assert mend
