"""Every control of the fault suite takes out what it says: its text is in the code, and gone where it was taken out."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.places import ROOT
from tests.faults.checker import CHECKS
from tests.faults.controls import shown
from tests.faults.unguarded import CONTROLS, Control, Finder, Loader, Patch, missing
from tests.faults.verdict import Looked, verdict

LOOK = """
import asyncio, sys
from tests.faults.unguarded import CONTROLS, take_out
take_out(CONTROLS["idempotency"])
from kit import idempotency
asked = idempotency.Asked("kari", "POST /", "key", b"")
assert asyncio.run(idempotency.answered(None, [asked])) == [None]  # it asks no database
print("taken out")
"""
RUN = """
from importlib import import_module
from tests.faults.unguarded import CONTROLS, Loader, take_out
for control in CONTROLS.values():
    take_out(control)
modules = {patch.module for control in CONTROLS.values() for patch in control.patches}
print("with their guards:", [name for name in modules if type(import_module(name).__loader__) is not Loader])
"""


@pytest.mark.parametrize("name", list(CONTROLS))
def test_the_guard_is_there_and_can_be_taken_out(name: str) -> None:
    control = CONTROLS[name]
    assert missing(control) == []
    for module in {patch.module for patch in control.patches}:
        spec = Finder(control.patches).find_spec(module, [str(ROOT / module.rpartition(".")[0].replace(".", "/"))])
        assert spec is not None
        assert isinstance(spec.loader, Loader)
        text = spec.loader.get_data(spec.origin).decode()
        compile(text, module, "exec")
        for patch in control.patches:
            assert patch.module != module or patch.old not in text.replace(patch.new or "\0", "")


def test_what_is_left_without_a_guard_fits_what_is_around_it(tmp_path: Path) -> None:
    """A control whose service cannot run shows nothing, and is run seldom: so the types are asked, of all at once."""
    patches = [patch for control in CONTROLS.values() for patch in control.patches]
    shadows: list[str] = []
    for module in {patch.module for patch in patches}:
        source = ROOT / f"{module.replace('.', '/')}.py"
        left = tmp_path / f"{module}.py"
        left.write_bytes(
            Loader(module, str(source), [one for one in patches if one.module == module]).get_data(str(source))
        )
        shadows += ["--shadow-file", str(source), str(left)]
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), *shadows),
            *("--config-file=", "--explicit-package-bases", "--ignore-missing-imports"),
            *shadows[1::3],  # by the plain rules: what is idle without a guard is no mistake
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_guards_of_all_modules_are_gone_where_they_run() -> None:
    """Also where a package brings its modules with it: one that was imported before would run with its guard."""
    ran = subprocess.run([sys.executable, "-c", RUN], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.stdout == "with their guards: []\n", ran.stdout + ran.stderr


def test_a_text_that_has_changed_is_told_and_not_passed_over() -> None:
    control = Control("a guard", "V1", "is lost", (Patch("kit.trail", "no such text", ""),))
    assert len(missing(control)) == 1


def test_no_service_is_compiled_without_its_guard_for_others() -> None:
    before = {path: path.stat().st_mtime_ns for path in ROOT.glob("kit/__pycache__/idempotency.*.pyc")}
    ran = subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.stdout == "taken out\n", ran.stderr
    after = {path: path.stat().st_mtime_ns for path in ROOT.glob("kit/__pycache__/idempotency.*.pyc")}
    assert after == before


def test_each_control_names_an_invariant_that_is_judged() -> None:
    assert {control.invariant for control in CONTROLS.values()} <= set(CHECKS)


def test_a_control_is_shown_by_the_finding_that_it_must_cause_and_by_no_other() -> None:
    control = CONTROLS["mark-after-ack"]
    late, lost = (f"course/1 7 is {what} and not on its topic" for what in ("not published", "marked as published"))
    assert shown(control, verdict("V3", Looked({"said": 1}, [(late, [])]))) is None
    assert shown(control, verdict("V3", Looked({"said": 1}, [(late, []), (lost, [])]))) == lost
    assert shown(control, verdict("V3", Looked({"said": 0}))) is None


def test_no_service_knows_of_controls() -> None:
    for package in ("contracts", "kit", "services", "deploy"):
        for path in Path(ROOT / package).rglob("*.py"):
            assert "unguarded" not in path.read_text(encoding="utf-8"), path
