"""The rules of the house, each held by a check that reads the code, and each check shown to find a breach."""

import ast
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contracts.topics import SERVICES
from deploy.local import places

ROOT = Path(__file__).resolve().parents[2]
LANDED = ROOT / "tests/shape/migrations.sha256"
PACKAGES = ("contracts", "kit", "services", "deploy")

MOST_LINES = 400
SQL = re.compile(
    r"\s*(--[^\n]*\n\s*)*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|MERGE|TRUNCATE|LOCK|CREATE|ALTER|DROP|COPY)\b"
)
ASKS = ("execute", "executemany", "fetch", "fetchrow", "fetchval", "fetchmany", "prepare", "cursor")
# The role is the issuer's word for a person; an example in a help text names a consumer that there is; the reason
# behind a number may be what it is used for.
COURSE_ALLOWED = re.compile(r'"learner"|^\s*Example: .*$|(?<=\S)  # .*$')
COURSE_WORDS = re.compile(r"(?i)\b(courses?|enrol\w*|offerings?|learners?|seats?)\b")
CLOCKS = re.compile(r"\b(datetime\.(now|utcnow|today)|date\.today|time\.(time|monotonic|perf_counter)(_ns)?)$")
EMPTY_NAMES = re.compile(r"^(process|handle|do)(_|$)|(Manager|Helper|Util|Utils)$")
EMPTY_MODULES = {"utils", "helpers", "common", "misc", "base", "manager"}
UNDER_A_DOOR = ("commands", "domain", "store", "events", "work", "offerings")
# Rules on plain values. A service whose rules are many has one module for each kind beside its domain.py.
PURE = ("services/*/domain.py", *(f"services/enrolment/{name}.py" for name in ("acts", "asking", "offers")))
PURE_ALLOWED = re.compile(r"contracts\.fields|services\.enrolment(\.(acts|asking|domain|offers))?")
STANDARD = ("README.md", "__init__.py", "__main__.py", "app.py", "settings.py", "events.py", "store", "migrations")
# A lock with the address of one house's mirror, or a path of one machine, works nowhere else.
STRANGE = re.compile(
    r"(--(extra-)?index-url|--find-links[ =]|/(?:work|root|home/[a-z]\w*)/\w|pythonhosted\.org|://[^/\s]*(?:artifactory|nexus|jfrog|mirror))"
)

Check = Callable[[str, str], Iterator[str]]  # (path from the root, text) -> what is wrong


def nodes(text: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(text))


def imported(text: str) -> Iterator[str]:
    for node in nodes(text):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def no_sql(path: str, text: str) -> Iterator[str]:
    """SQL of a service stands in its store, a module or a package."""
    if Path(path).parent.name == "store":
        return
    for node in nodes(text):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value):
            yield f"{path}:{node.lineno} holds SQL: it belongs in the store"


def only_parameters(path: str, text: str) -> Iterator[str]:
    """A statement is a constant; values are its parameters. Constants may be put together from constants."""

    def constant(node: ast.expr) -> bool:
        if isinstance(node, ast.JoinedStr):
            return all(
                isinstance(part, ast.Constant) or (isinstance(part, ast.FormattedValue) and constant(part.value))
                for part in node.values
            )
        if isinstance(node, ast.BinOp):
            return isinstance(node.op, ast.Add) and constant(node.left) and constant(node.right)
        if isinstance(node, (ast.Constant, ast.Subscript)):
            return isinstance(node, ast.Constant) or constant(node.value)
        return isinstance(node, ast.Name) and node.id.isupper()

    built = (ast.JoinedStr, ast.BinOp, ast.Call)
    for node in nodes(text):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ASKS and node.args:
            statement = node.args[0]
            if isinstance(statement, built) and not constant(statement):
                yield f"{path}:{node.lineno} puts a value into a statement: give it as a parameter"


def no_listening(path: str, text: str) -> Iterator[str]:
    """Only kit/consumer.py knows FastStream; a service knows no Kafka client at all."""
    for node in nodes(text):
        if isinstance(node, ast.Attribute) and node.attr == "subscriber":
            yield f"{path}:{node.lineno} listens by itself: only kit/consumer.py does, with its settings"
    for name in imported(text):
        client = name.split(".")[0]
        if client == "faststream" or (client == "aiokafka" and path.startswith("services/")):
            yield f"{path} imports {name}: listen with kit.consumer, speak with kit.outbox"


def no_course(path: str, text: str) -> Iterator[str]:
    """The kit carries messages and does not know what they are about."""
    for number, line in enumerate(text.splitlines(), 1):
        if found := COURSE_WORDS.search(COURSE_ALLOWED.sub("", line)):
            yield f"{path}:{number} says {found[0]!r}: the kit knows no course"


def short(path: str, text: str) -> Iterator[str]:
    """What is longer is split by noun."""
    lines = len(text.splitlines())
    if lines > MOST_LINES:
        yield f"{path} has {lines} lines: split it by noun"


def explained(path: str, text: str) -> Iterator[str]:
    """A module says in its first line why one would open it."""
    if text.strip() and not ast.get_docstring(ast.parse(text)):
        yield f"{path} has no docstring: say in one sentence why to open it"


def plain_names(path: str, text: str) -> Iterator[str]:
    """A name tells what is done, in the words of the field."""
    if Path(path).stem in EMPTY_MODULES:
        yield f"{path} is named for nothing: name it for what it guards"
    for node in nodes(text):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and EMPTY_NAMES.search(node.name):
            yield f"{path}:{node.lineno} {node.name}: say what it does"


def given_time(path: str, text: str) -> Iterator[str]:
    """A rule is given the time, so that a test can give it another."""
    for node in nodes(text):
        if isinstance(node, ast.Attribute) and CLOCKS.search(ast.unparse(node)):
            yield f"{path}:{node.lineno} asks a clock: take the time as an argument"


def standard_library(path: str, text: str) -> Iterator[str]:
    """A rule can be read, and tested, without knowing any library: only the contracts' values, and other rules."""
    for name in imported(text):
        if name.split(".")[0] not in sys.stdlib_module_names and not PURE_ALLOWED.fullmatch(name):
            yield f"{path} imports {name}: a domain knows the standard library only"


def no_transaction(path: str, text: str) -> Iterator[str]:
    """One request or one message is one transaction, and only the door that took it opens and ends it."""
    for node in nodes(text):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value).rpartition(".")[2]
            if node.func.attr in ("transaction", "commit", "rollback") or (node.func.attr, owner) == (
                "run",
                "database",
            ):
                yield f"{path}:{node.lineno} opens or ends a transaction: leave that to the door"


def no_threads(path: str, text: str) -> Iterator[str]:
    """FastAPI calls a plain function in a thread: each request would wait for one, and a rush makes forty of them."""
    plain = {node.name for node in nodes(text) if isinstance(node, ast.FunctionDef)}
    for node in nodes(text):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Depends" and node.args:
            name = ast.unparse(node.args[0])
            if name in plain:
                yield f"{path}:{node.lineno} depends on {name}, which is not async"


def of_any_machine(path: str, text: str) -> Iterator[str]:
    """A clone works on any machine."""
    for number, line in enumerate(text.splitlines(), 1):
        if found := STRANGE.search(line):
            yield f"{path}:{number} holds {found[0]!r}, which is of one machine"


def files(*patterns: str, but: tuple[str, ...] = ()) -> list[str]:
    found = {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)}
    found = {path for path in found if "/node_modules/" not in path}  # fetched, not ours
    return sorted(
        path for path in found if Path(path).name not in but and path not in but and "__pycache__" not in path
    )


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.splitlines() if (ROOT / path).is_file()]


ALL = [f"{package}/**/*.py" for package in PACKAGES]
RULES: list[tuple[Check, Callable[[], list[str]]]] = [
    (no_sql, lambda: files("services/**/*.py", but=("store.py",))),
    (only_parameters, lambda: files("services/**/*.py", "kit/**/*.py")),
    (no_listening, lambda: files("services/**/*.py", "kit/**/*.py", but=("kit/consumer.py",))),
    (no_course, lambda: files("kit/**/*.py", "kit/**/*.sql")),
    (short, lambda: files(*ALL)),
    (explained, lambda: files(*ALL)),
    (plain_names, lambda: files("services/**/*.py")),
    (given_time, lambda: files(*PURE)),
    (standard_library, lambda: files(*PURE)),
    (no_transaction, lambda: files("services/*/store/*.py", *(f"services/*/{name}.py" for name in UNDER_A_DOOR))),
    (no_threads, lambda: files("services/**/*.py", "kit/**/*.py")),
    (of_any_machine, lambda: [path for path in tracked() if path != "tests/shape/test_shape.py"]),
]
BREACHES: list[tuple[Check, str]] = [
    (no_sql, 'x = "SELECT 1"'),
    (no_sql, 'x = """\n-- why\nDELETE FROM places"""'),
    (no_sql, 'async def f(c): await c.fetch("""\n    WITH a AS (SELECT 1) TABLE a""")'),
    (only_parameters, 'c.execute(f"SELECT {name}")'),
    (only_parameters, 'c.fetchrow("SELECT %s" % name)'),
    (only_parameters, 'c.fetchval("SELECT {}".format(name))'),
    (only_parameters, "c.fetch(SELECT + name)"),
    (no_listening, '@broker.subscriber("a")\ndef f(): ...'),
    (no_listening, "from faststream.kafka import KafkaBroker"),
    (no_listening, "import aiokafka"),
    (no_course, "# when a learner asks"),
    (no_course, "ENROLMENT = 1"),
    (short, "x = 1\n" * (MOST_LINES + 1)),
    (explained, "x = 1"),
    (plain_names, "def handle_it(): ..."),
    (plain_names, "class SeatManager: ..."),
    (given_time, "import datetime\nx = datetime.datetime.now()"),
    (given_time, "import time\nx = time.time()"),
    (standard_library, "import pydantic"),
    (standard_library, "from services.enrolment.store import seats"),
    (no_transaction, "async def f(c):\n    async with c.transaction(): ..."),
    (no_transaction, "async def f(running): await running.database.run(g)"),
    (no_threads, "def desk(): ...\nDesk = Annotated[int, Depends(desk)]"),
    (of_any_machine, "--index-url https://example.no/simple"),
    (of_any_machine, f"cd /{'root'}/kursnett"),  # spelled apart, so that no path of a machine stands in this tree
]


@pytest.mark.parametrize(("check", "where"), RULES, ids=[check.__name__ for check, _ in RULES])
def test_the_code_keeps_the_rule(check: Check, where: Callable[[], list[str]]) -> None:
    paths = where()
    assert paths, "the rule looks at no file: is a folder renamed?"
    wrong: list[str] = []
    for path in paths:
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or a font
        wrong += check(path, text)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("check", "breach"), BREACHES, ids=lambda value: getattr(value, "__name__", None))
def test_a_breach_is_found(check: Check, breach: str) -> None:
    assert list(check("services/example/commands.py", breach))


def test_each_rule_has_a_breach_that_it_finds() -> None:
    assert {check for check, _ in RULES} == {check for check, _ in BREACHES}


def test_a_statement_made_of_constants_is_let_through() -> None:
    assert not list(only_parameters("a.py", 'c.fetch(f"{_ALL} WHERE id = $1", name)'))


# Layers


def layers(folder: Path, config: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--config", config, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_imports_go_one_way() -> None:
    ran = layers(ROOT, ROOT / "pyproject.toml")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_an_import_the_wrong_way_is_found(tmp_path: Path) -> None:
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    for service in SERVICES:
        (tmp_path / "services" / service).mkdir()
        (tmp_path / "services" / service / "__init__.py").touch()
    for module in ("catalogue", "enrolment", "notifier", "partner"):
        (tmp_path / f"contracts/{module}.py").touch()
    config = tmp_path / "pyproject.toml"
    config.write_text((ROOT / "pyproject.toml").read_text())
    assert layers(tmp_path, config).returncode == 0
    (tmp_path / "services/enrolment/app.py").write_text("import services.notifier\n")
    (tmp_path / "kit/trail.py").write_text("import contracts.catalogue\nimport services.enrolment\n")
    ran = layers(tmp_path, config)
    assert ran.returncode == 1
    assert "3 broken" in ran.stdout, ran.stdout


# Services


def missing(folder: Path) -> list[str]:
    """What a reader who knows one service looks for in this one and does not find."""
    gone = [name for name in STANDARD if not ((folder / name).exists() or (folder / f"{name}.py").exists())]
    readme = (folder / "README.md").read_text() if (folder / "README.md").exists() else ""
    gone += [
        f"README.md: {word}" for word in ("Owns", "Says", "Hears", "HTTP") if not re.search(rf"(?i)\b{word}\b", readme)
    ]
    return gone


def test_a_service_is_a_folder_an_owner_of_topics_and_a_program_of_the_stack() -> None:
    folders = {path.parent.name for path in ROOT.glob("services/*/__init__.py")}
    assert folders == set(SERVICES) == set(places.SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_has_the_standard_files(service: str) -> None:
    assert not missing(ROOT / "services" / service)


def test_a_missing_file_and_a_missing_list_are_named(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("**Owns** all. **Says** much. **HTTP** too.")
    found = missing(tmp_path)
    assert "store" in found
    assert "README.md: Hears" in found


# Nothing happens at import

IMPORT_ALL = """
import importlib, sys
def refuse(event, details):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen"):
        raise SystemExit(f"{event} at import")
sys.addaudithook(refuse)
sys.path.insert(0, ".")
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def import_all(folder: Path, modules: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", IMPORT_ALL, *modules]
    return subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True, timeout=60)


def test_nothing_happens_at_import() -> None:
    paths = files("contracts/**/*.py", "kit/**/*.py", "services/**/*.py", but=("__main__.py",))
    modules = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in paths]
    ran = import_all(ROOT, modules)
    assert ran.returncode == 0, ran.stderr
    assert not ran.stdout


@pytest.mark.parametrize(
    "line",
    [
        "import socket; socket.create_connection(('127.0.0.1', 9))",
        "import subprocess, sys; subprocess.run([sys.executable, '-V'])",
        "import os; os.environ['KURSNETT_KAFKA_BOOTSTRAP']",
    ],
)
def test_what_happens_at_import_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "eager.py").write_text(line)
    assert import_all(tmp_path, ["eager"]).returncode == 1


# Migrations


def misnumbered(names: list[str]) -> list[str]:
    """Names that are not NNNN_what.sql, and numbers that are not one after the other from 0001."""
    bad = [name for name in names if not re.fullmatch(r"\d{4}_[a-z0-9_]+\.sql", name)]
    numbers = [name[:4] for name in sorted(names)]
    return bad + [number for place, number in enumerate(numbers, 1) if number != f"{place:04}"]


def changed(listed: str, root: Path) -> list[str]:
    """Landed migrations that are no longer what they were. `listed`: lines as sha256sum writes them."""
    found = []
    for line in listed.splitlines():
        digest, path = line.split("  ", 1)
        if not (root / path).exists() or hashlib.sha256((root / path).read_bytes()).hexdigest() != digest:
            found.append(path)
    return found


@pytest.mark.parametrize("folder", ["kit", *(f"services/{service}" for service in SERVICES)])
def test_migrations_are_numbered(folder: str) -> None:
    names = [path.name for path in (ROOT / folder / "migrations").iterdir()]
    assert names
    assert not misnumbered(names)


def test_wrong_numbers_are_found() -> None:
    assert misnumbered(["0001_first.sql", "0003_third.sql"])
    assert misnumbered(["0001_first.sql", "0001_again.sql"])
    assert misnumbered(["1_first.sql"])


def test_landed_migrations_are_unchanged() -> None:
    wrong = changed(LANDED.read_text(), ROOT)
    assert not wrong, f"{wrong}: it has run somewhere; write the next number instead (CONTRIBUTING.md, Migrations)"


def test_a_changed_and_a_deleted_migration_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("SELECT 1")
    right = hashlib.sha256(b"SELECT 1").hexdigest()
    assert not changed(f"{right}  a.sql\n", tmp_path)
    assert changed(f"{'0' * 64}  a.sql\n{right}  b.sql\n", tmp_path) == ["a.sql", "b.sql"]
