"""The report of a fault run tells what was measured, and its picture is one that a browser draws."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from tests.faults import report
from tests.faults.evidence import Evidence
from tests.faults.verdict import Looked, verdict


def run() -> Evidence:
    lines: list[dict[str, Any]] = [{"t": 100.0, "kind": "begin", "wall": 0.0}]
    for n in range(20):
        known = {"f": "enrol", "id": str(n), "n": 1}
        lines += [{"t": 100.5 + n, "kind": "invoke", **known}, {"t": 100.6 + n, "kind": "ok", **known}]
    for n, (f, seconds, overlaps) in enumerate((("kill", 1.0, False), ("kill", 3.0, False), ("cut", 9.0, True))):
        known = {"id": f"fault-{n}", "family": "service", "f": f, "target": "enrolment", "overlaps": overlaps}
        lines.append({"t": 103.0 + n, "kind": "fault", **known})
        heal = {"ended": 104.0 + n, "recovery_s": seconds, "awaited": "seat taken or given back"}
        lines.append({"t": 105.0 + n, "kind": "heal", **known, **heal})
    lines.append({"t": 121.0, "kind": "exit", "who": "enrolment", "status": 70, "asked": ""})
    return Evidence(history=lines, deliveries=[{"t": 110.0, "outcome": "ok"}])


def test_recovery_is_told_for_each_kind_of_fault_without_those_that_met_another(tmp_path: Path) -> None:
    red = verdict("V1 no lost write", Looked({"enrolled": 20}, [("it is gone", [{"id": "7"}])]))
    text = report.write(tmp_path, "A run", run(), [red]).read_text()
    assert "| service kill | 2 | 2.0 | 3.0 | 3.0 |" in text
    assert "service cut | 1 |" not in text
    assert "9.0 (met another)" in text
    assert "**RED**: V1 no lost write: 20 enrolled; 1 wrong" in text
    assert '{"id": "7"}' in text
    assert "| enrolment | 70 | **by itself** |" in text


def test_the_picture_has_a_line_for_each_sort_of_work_and_a_band_for_each_fault(tmp_path: Path) -> None:
    report.write(tmp_path, "A run", run(), [])
    picture = ElementTree.parse(tmp_path / "timeline.svg").getroot()
    names = [part.tag.rpartition("}")[2] for part in picture.iter()]
    assert names.count("polyline") == len(report.LINES)
    assert names.count("title") == 3
