"""Bring the containers up, follow one course from a partner to a learner's mail, and take everything down again."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import httpx2
from aiokafka import AIOKafkaProducer

from contracts.topics import SERVICES, partner_courses
from deploy.trouble import Trouble

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "kursnett-stacktest"  # not the developer's own stack: taking that one down would delete his data
PORTS = tuple(
    f"KURSNETT_{name}"
    for name in ("PORT", "POSTGRES_PORT", "KAFKA_PORT", "KAFKA_PARTNERS_PORT", "ISSUER_PORT", "MAIL_PORT")
)
UP_SECONDS = 420  # building three images on a cold cache; the start alone takes about a minute
CHAIN_SECONDS = 30.0  # from one link of the chain to the next; the services promise 2
PARTNER, ARENA = "kunnskapsparken", "mo-i-rana"

T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Stack:
    """One run of docker-compose.yml under a project name and ports of its own."""

    def __init__(self) -> None:
        self.ports = {name: free_port() for name in PORTS}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KURSNETT_")}
        self.environment = inherited | {name: str(port) for name, port in self.ports.items()}

    def compose(self, *arguments: str, check: bool = True, seconds: int = 120, show: bool = False) -> str:
        """Run `docker compose`; returns what it prints. With `show` its progress goes to the terminal instead."""
        command = ["docker", "compose", "--project-name", PROJECT, "--env-file", os.devnull, *arguments]
        out = None if show else subprocess.PIPE
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, timeout=seconds, stdout=out, stderr=None, text=True, check=False
        )
        if check and done.returncode:
            raise Trouble(f"`{' '.join(command)}` failed with {done.returncode}.", "Its own words stand above.")
        return done.stdout or ""

    def typed(self, commands: str, folder: str) -> None:
        """Type commands of the documentation in a shell, as they stand there, about this run of the containers."""
        about = {"COMPOSE_PROJECT_NAME": PROJECT, "COMPOSE_FILE": str(ROOT / "docker-compose.yml")}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands.replace("kursnett_", f"{PROJECT}_")],
            cwd=folder,
            env=self.environment | about | {"COMPOSE_ENV_FILES": os.devnull},
            capture_output=True,
            text=True,
            timeout=UP_SECONDS,
            check=False,
        )
        if done.returncode:
            raise Trouble(f"What docs/operating.md says failed with {done.returncode}.", done.stdout + done.stderr)

    def address(self, port: str, host: str = "localhost") -> str:
        return f"http://{host}:{self.ports[port]}"


def engine() -> None:
    """Raises Trouble with one sentence when there is no container engine to test with."""
    mend = "This test needs Docker Engine 20.10 or newer with Compose 2.24 or newer; `make test` needs neither."
    try:
        asked = subprocess.run(["docker", "version"], capture_output=True, text=True, timeout=30, check=False)
        if asked.returncode:
            where = os.environ.get("DOCKER_HOST", "its usual socket")
            raise Trouble(f"No container engine answers at {where}.", mend)
        if subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=30, check=False).returncode:
            raise Trouble("The docker command here has no compose.", mend)
    except FileNotFoundError:
        raise Trouble("There is no docker command on this machine.", mend) from None
    except subprocess.TimeoutExpired:
        raise Trouble("The container engine does not answer within 30 s.", mend) from None


def until(fact: str, look: Callable[[], T | None], seconds: float = CHAIN_SECONDS) -> T:
    """Ask again until `look` finds something; returns it. Raises Trouble when it does not within the time."""
    began = time.monotonic()
    while True:
        found = look()
        if found is not None:
            print(f"  ok  {fact} ({time.monotonic() - began:.1f} s)", flush=True)
            return found
        if time.monotonic() - began > seconds:
            raise Trouble(f"Not within {seconds:.0f} s: {fact}.")
        time.sleep(0.2)


def holds(fact: str, true: bool, otherwise: object = "") -> None:
    if not true:
        raise Trouble(f"Not so: {fact}.", str(otherwise))
    print(f"  ok  {fact}", flush=True)


def answer(response: httpx2.Response, *expected: int) -> Any:
    if response.status_code not in expected:
        raise Trouble(f"{response.request.method} {response.request.url.path}: {response.status_code}.", response.text)
    return response.json()


def token(stack: Stack, username: str) -> str:
    """An access token of the development issuer for a learner of this name."""
    issuer = stack.address("KURSNETT_ISSUER_PORT") + "/kursnett"
    grant = {"grant_type": "client_credentials", "client_id": "kursnett", "client_secret": "none"}
    said = {"sub": username, "name": "Kari Nordmann", "role": "learner", "speaks_for": "person"}
    return str(answer(httpx2.post(f"{issuer}/token", data=grant | said, trust_env=False), 200)["access_token"])


def course(title: str) -> dict[str, Any]:
    return {"title": {"nb": title}, "summary": {"nb": "Prøve."}, "subjects": ["helse"], "studiepoeng": "7.5"}


def offering() -> dict[str, Any]:
    starts = datetime.now(UTC) + timedelta(days=30)
    dates = {"starts_at": starts.isoformat(), "ends_at": (starts + timedelta(days=2)).isoformat()}
    return {**dates, "places": [{"arena": ARENA, "capacity": 5}]}


async def send(kafka: dict[str, str], kind: str, code: str, data: dict[str, Any]) -> None:
    """Say something as the partner, with a plain Kafka client and the partner's log-in, as a structured CloudEvent."""
    event = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": f"/partners/{PARTNER}",
        "type": f"no.kursnett.partner.{kind}.v1",
        "subject": code,
        "time": datetime.now(UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": data,
    }
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka["bootstrap"],
        security_protocol=kafka["security_protocol"],
        sasl_mechanism=kafka["mechanism"],
        sasl_plain_username=kafka["username"],
        sasl_plain_password=kafka["password"],
    )
    async with producer:
        headers = [("content-type", b"application/cloudevents+json")]
        topic = partner_courses(PARTNER).name
        await producer.send_and_wait(topic, json.dumps(event).encode(), key=code.encode(), headers=headers)


def containers_keep_to_themselves(stack: Stack) -> None:
    for service in SERVICES:
        folders = stack.compose("exec", "-T", service, "ls", "/app/services").split()
        own = set(folders) - {"__pycache__"} == {"__init__.py", service}
        holds(f"{service}'s image holds no other service", own, folders)
        folders = stack.compose("exec", "-T", service, "ls", "/app").split()
        none = sorted(folders) == ["contracts", "kit", "services"]
        holds(f"{service}'s image holds nothing of deploy", none, folders)
        uid = stack.compose("exec", "-T", service, "id", "-u").strip()
        holds(f"{service} does not run as root", uid == "10001", uid)
    for service in SERVICES:
        other = "enrolment" if service == "catalogue" else "catalogue"
        sql = f"SET ROLE {service}; SELECT has_database_privilege(current_user, '{other}', 'CONNECT')"
        psql = ("exec", "-T", "postgres", "psql", "-U", "admin", "-d", "postgres", "-qAtc", sql)
        may = stack.compose(*psql).strip()
        holds(f"{service} may not connect to {other}'s database", may == "f", may)


def chain(stack: Stack) -> str:
    """From a new partner to a learner's mail, over both ways in. Returns the partner's key."""
    added = stack.compose(
        *("exec", "-T", "catalogue", "python", "-m", "services.catalogue", "partners", "add", PARTNER),
        *("--name", "Kunnskapsparken", "--orgnr", "810000007", "--arena", ARENA, "--json"),
    )
    key, kafka = json.loads(added)["key"], json.loads(added)["kafka"]
    print("  ok  a partner is added and has a key and a log-in at Kafka", flush=True)

    gateway = stack.address("KURSNETT_PORT")
    with httpx2.Client(base_url=gateway, timeout=10, trust_env=False) as http:
        partner = {"Authorization": f"Bearer {key}"}
        path = f"/api/catalogue/v1/partners/{PARTNER}/courses"
        answer(http.put(f"{path}/HVG-01", json=course("Veiledning i praksis"), headers=partner), 200, 201)
        put = answer(http.put(f"{path}/HVG-01/offerings/H1", json=offering(), headers=partner), 200, 201)
        print("  ok  the partner puts a course and an offering", flush=True)
        enrol(stack, http, put["offering_id"])

        asyncio.run(send(kafka, "CoursePublished", "HVG-02", {"code": "HVG-02", **course("Velferdsteknologi")}))
        dates = {"course_code": "HVG-02", "key": "H1", **offering()}
        asyncio.run(send(kafka, "OfferingPublished", "HVG-02", dates))

        def listed() -> str | None:
            found = answer(http.get("/api/catalogue/v1/courses", params={"q": "HVG-02"}), 200)["items"]
            whole = answer(http.get(f"/api/catalogue/v1/courses/{found[0]['course_id']}"), 200) if found else {}
            offered = whole.get("offerings")
            return str(offered[0]["offering_id"]) if offered else None

        enrol(stack, http, until("a CloudEvent of a plain Kafka client becomes a course", listed))
        holds("the gateway shows no metrics", http.get("/metrics").status_code == 404)
    return str(key)


def recipe() -> list[str]:
    """The commands that docs/operating.md gives for a backup in containers, and to put one back."""
    section = (ROOT / "docs" / "operating.md").read_text().partition("### In containers\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def restoring(stack: Stack, key: str) -> None:
    """What came after a backup is lost by name, and heard again where others had said it; all goes on from there."""
    back_up, put_back = recipe()
    began = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with tempfile.TemporaryDirectory(prefix="kursnett-stacktest-") as folder:
        stack.typed(back_up, folder)
        offering_id = another_run(stack, key, "H2")
        stack.typed(re.sub(r"--since \S+", f"--since {began}", put_back), folder)
        lost = [one["type"] for one in json.loads(Path(folder, "lost.json").read_text())["lost"]]
    holds("who enrolled after the backup is listed", sum("LearnerEnrolled" in kind for kind in lost) == 1, lost)
    with httpx2.Client(base_url=stack.address("KURSNETT_PORT"), timeout=10, trust_env=False) as http:
        path = f"/api/enrolment/v1/offerings/{offering_id}"
        until("what was put after it is heard again", lambda: http.get(path).status_code == 200 or None)
        taken = [place["taken"] for place in answer(http.get(path), 200)["places"]]
        holds("nobody has a seat there", taken == [0], taken)
        enrol(stack, http, offering_id)


def replicas(stack: Stack, key: str) -> None:
    """Two of each service share the work, and one of the two is enough."""
    two = [f"--scale={service}=2" for service in SERVICES]
    stack.compose("up", "--detach", "--wait", "--no-recreate", *two, seconds=UP_SECONDS, show=True)
    ids = {service: stack.compose("ps", "--quiet", service).split() for service in SERVICES}
    holds("there are two of each service", all(len(its) == 2 for its in ids.values()), ids)
    another_run(stack, key, "H3")
    for service in SERVICES:  # the first of each is who publishes and reads
        subprocess.run(["docker", "stop", ids[service][0]], env=stack.environment, capture_output=True, check=True)
    print("  ok  the first of each is stopped", flush=True)
    another_run(stack, key, "H4")


def another_run(stack: Stack, key: str, run: str) -> str:
    """A further run of a course that is there, from the partner to a learner's mail; its id."""
    path = f"/api/catalogue/v1/partners/{PARTNER}/courses/HVG-01/offerings/{run}"
    with httpx2.Client(base_url=stack.address("KURSNETT_PORT"), timeout=10, trust_env=False) as http:
        put = answer(http.put(path, json=offering(), headers={"Authorization": f"Bearer {key}"}), 201)
        enrol(stack, http, put["offering_id"])
    return str(put["offering_id"])


def enrol(stack: Stack, http: httpx2.Client, offering_id: str) -> None:
    path = f"/api/enrolment/v1/offerings/{offering_id}"
    until("the enrolment service has heard of the offering", lambda: http.get(path).status_code == 200 or None)
    name = f"learner-{uuid.uuid4().hex[:8]}"
    learner = {"Authorization": f"Bearer {token(stack, name)}"}
    address = f"{name}@example.no"
    body = {"places": [ARENA], "name": "Kari Nordmann", "contact": {"email": address, "language": "nb"}}
    state = answer(http.post(f"{path}/enrolments", json=body, headers=learner), 201)["state"]
    holds("a learner with a token has a seat", state == "associated", state)

    def mailed() -> str | None:
        page = stack.address("KURSNETT_MAIL_PORT", "127.0.0.1")
        caught = httpx2.get(f"{page}/api/v1/messages", params={"limit": 100}, trust_env=False).json()["messages"]
        mine = [m for m in caught if address in {to["Address"] for to in m["To"]}]
        return str(mine[0]["Subject"]) if mine else None

    until("the learner's mail is caught", mailed)


def person(stack: Stack) -> None:
    """Log in with a browser's requests, through the gateway and the issuer's form, and see one's own page."""
    cookies: dict[str, dict[str, str]] = {}
    with httpx2.Client(timeout=10, trust_env=False, headers={"accept": "text/html"}) as browser:

        def ask(address: str, form: dict[str, str] | None = None) -> httpx2.Response:
            mine = cookies.setdefault(httpx2.URL(address).netloc.decode(), {})
            sent = {"cookie": "; ".join(f"{name}={value}" for name, value in mine.items())} if mine else {}
            got = browser.request("POST" if form else "GET", address, data=form, headers=sent)
            for line in got.headers.get_list("set-cookie"):
                name, _, value = line.partition(";")[0].partition("=")
                mine[name] = value
            return ask(str(got.url.join(got.headers["location"]))) if got.is_redirect else got

        gateway = stack.address("KURSNETT_PORT")
        form = ask(f"{gateway}/min-side")
        page = ask(str(form.url), {"username": "kari"})
        where = (page.status_code, page.url.path)
        holds("a person logs in and sees her own page", where == (200, "/min-side") and "Mine kurs" in page.text, where)
        styled = re.search(r'href="(/felles/[^"]+/site\.css)"', page.text)
        style = ask(f"{gateway}{styled[1]}") if styled else page
        holds("with the design system's style", "ds-button" in style.text and len(style.text) > 100_000)


def report(stack: Stack) -> None:
    """What an operator would look at first, without secrets: none is in a log or in the environment."""
    print(stack.compose("ps", "--all", check=False))
    log = stack.compose("logs", "--no-color", "--tail", "200", check=False)
    print(re.sub(r"(?m)^((gateway|mail|issuer)-\d+ .*|.*\"event\":\"request\".*)\n", "", log))


def main() -> None:
    """Ends with 0 and takes the stack down when all holds; else shows the logs, takes it down and ends with 1."""
    signal.signal(signal.SIGTERM, stopped)
    try:
        engine()
        stack = Stack()
        down = ("--progress", "quiet", "down", "--volumes", "--remove-orphans", "--timeout", "40")
        stack.compose(*down, check=False, show=True)  # what a killed run has left
        try:
            up = ("up", "--build", "--detach", "--wait", "--wait-timeout", str(UP_SECONDS))
            stack.compose(*up, seconds=UP_SECONDS * 3, show=True)
            containers_keep_to_themselves(stack)
            key = chain(stack)
            person(stack)
            restoring(stack, key)
            replicas(stack, key)
        except Exception:
            report(stack)
            raise
        finally:
            stack.compose(*down, check=False, show=True, seconds=180)
    except Trouble as trouble:
        raise SystemExit(f"stack-test: {trouble}") from None
    print("stack-test: the chain runs in containers")


def stopped(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
