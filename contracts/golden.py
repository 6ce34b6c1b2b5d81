"""The golden files: schemas, the AsyncAPI document and the README's tables, made from the classes and kept in git."""

import json
from pathlib import Path
from typing import Any

from contracts import asyncapi
from contracts.registry import EVENTS
from contracts.topics import KEPT_DAYS

HERE = Path(__file__).parent
BEGIN, END = "<!-- {} (written by `make contracts`) -->", "<!-- end of {} -->"


def files(folder: Path = HERE) -> dict[Path, str]:
    """What each golden file must hold."""
    made = {folder / "schemas" / f"{event.spec.type}.json": text(asyncapi.event_schema(event)) for event in EVENTS}
    made[folder / "asyncapi.json"] = text(asyncapi.document())
    readme = folder / "README.md"
    made[readme] = with_tables(readme.read_text("utf-8"))
    return made


def stale(folder: Path = HERE) -> list[str]:
    """Which golden files are not as they should be, one line each; none when all is well."""
    return differing(files(folder), folder / "schemas")


def write(folder: Path = HERE) -> list[str]:
    """Make them so; returns what was changed, one line each."""
    return put(files(folder), folder / "schemas")


def differing(wanted: dict[Path, str], own: Path) -> list[str]:
    """Which of these files are not as wanted, and what else lies in the folder `own`, which holds nothing else."""
    root = own.parent.parent
    found = [
        f"{path.relative_to(root)}: {'missing' if not path.exists() else 'out of date'}"
        for path, content in wanted.items()
        if not path.exists() or path.read_text("utf-8") != content
    ]
    return found + [f"{path.relative_to(root)}: belongs to nothing" for path in _left_over(wanted, own)]


def put(wanted: dict[Path, str], own: Path) -> list[str]:
    """Write these files and delete what else lies in `own`; returns what was changed, one line each."""
    changed = differing(wanted, own)
    own.mkdir(exist_ok=True)
    for path, content in wanted.items():
        path.write_text(content, "utf-8")
    for path in _left_over(wanted, own):
        path.unlink()
    return changed


def text(value: Any) -> str:
    """JSON as it stands in a golden file: sorted, so that the order of fields in a class makes no difference."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def with_tables(readme: str) -> str:
    """The README with its two tables made anew. Raises ValueError when it has no place for one."""
    for name, table in (("events", events_table()), ("topics", topics_table())):
        begin, end = BEGIN.format(name), END.format(name)
        before, _, rest = readme.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"contracts/README.md needs the lines {begin} and {end} around its table of {name}")
        readme = f"{before}{begin}\n{table}\n{end}{after}"
    return readme


def events_table() -> str:
    rows = [
        f"| `{event.spec.type}` | {asyncapi.said_by(topic)} | {', '.join(topic.readers)} | `{topic.name}` "
        f"| `{event.spec.key}` | `{event.spec.aggregate}` | {(event.__doc__ or '').strip().partition(chr(10))[0]} |"
        for topic in asyncapi.ALL_TOPICS
        for event in asyncapi.said_on(topic)
    ]
    return "\n".join(
        [
            "| event | said by | heard by | topic | key | aggregate | what it says |",
            "|---|---|---|---|---|---|---|",
            *rows,
        ]
    )


def topics_table() -> str:
    rows = [
        f"| `{topic.name}` | {asyncapi.said_by(topic)} | {', '.join(topic.readers)} | {topic.key} "
        f"| {topic.partitions} | {'newest per key' if topic.compacted else f'{KEPT_DAYS} days'} "
        f"| {topic.batch_bytes // 1024} KiB |"
        for topic in asyncapi.ALL_TOPICS
    ]
    head = "| topic | written by | read by | key | partitions | kept | largest batch |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *rows])


def _left_over(wanted: dict[Path, str], own: Path) -> list[Path]:
    return [path for path in sorted(own.glob("*.json")) if path not in wanted]
