"""The Java archives of Kafka and the issuer: fetched by coordinate, run only when their SHA-256 is the listed one."""

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.places import cache
from deploy.trouble import Trouble, refused

LIST = Path(__file__).with_name("jars.txt")
# The `!` takes every version from the project's own list; without it a parent's list put kafka-clients 3.9 under
# Kafka 4.3. The log4j binding is the one for slf4j 1, which is what Kafka has.
ENDPOINTS = {
    "kafka": "org.apache.kafka:kafka_2.13:4.3.1!+org.apache.logging.log4j:log4j-slf4j-impl:2.25.3!",
    "issuer": "no.nav.security:mock-oauth2-server:3.0.1!",
}
AT_ONCE = 8  # downloads side by side; the files are small, so latency rules


@dataclass(frozen=True)
class Jar:
    """One archive: `group:artifact:version`, and what it must hash to."""

    coordinate: str
    sha256: str

    @property
    def file(self) -> str:
        group, artifact, version = self.coordinate.split(":")
        return f"{group}.{artifact}-{version}.jar"


def listed(program: str, text: str | None = None) -> list[Jar]:
    """The archives of one program, in the order of its class path."""
    lines = (LIST.read_text() if text is None else text).splitlines()
    rows = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    return [Jar(coordinate, sha256) for owner, sha256, coordinate in rows if owner == program]


def missing(jars: Sequence[Jar], folder: Path) -> list[Jar]:
    return [jar for jar in jars if not (folder / jar.file).exists()]


def class_path(program: str, say: Callable[[str], None] = lambda text: None) -> str:
    """The class path of one program, every archive on it checked; fetches what is not here yet. Raises Trouble."""
    folder = cache() / "jars"
    jars = listed(program)
    wanted = missing(jars, folder)
    if wanted:
        fetch(wanted, folder, say)
    check(jars, folder)
    return os.pathsep.join(str(folder / jar.file) for jar in jars)


def check(jars: Sequence[Jar], folder: Path) -> None:
    """Refuse an archive that is not the listed one. Raises Trouble."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for jar, found in zip(jars, pool.map(lambda jar: digest(folder / jar.file), jars), strict=True):
            if found != jar.sha256:
                raise Trouble(
                    f"{folder / jar.file} is not the {jar.coordinate} that deploy/local/jars.txt names: its SHA-256 "
                    f"is {found[:12]}…, not {jar.sha256[:12]}….",
                    "It was not run. Delete the file and start again; if that does not help, do not trust the source.",
                )


def fetch(jars: Sequence[Jar], folder: Path, say: Callable[[str], None]) -> None:
    """Download archives side by side into `folder`; one that is whole and right stays even if another fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix="fetching-", dir=folder) as staging,
            ThreadPoolExecutor(AT_ONCE) as pool,
        ):
            work = [pool.submit(_fetch, jar, Path(staging), folder) for jar in jars]
            for count, done in enumerate(work, start=1):
                try:
                    done.result()
                except BaseException:
                    for other in work:
                        other.cancel()
                    raise
                say(f"fetched {count} of {len(jars)} Java archives")
    except Trouble:
        raise
    except OSError as error:  # what requests raises is an OSError too
        known = refused(error)
        if known is not None:
            raise known from error
        if shutil.disk_usage(cache().anchor if not cache().exists() else cache()).free < 200_000_000:
            raise Trouble(
                f"The disk with {cache()} is full.", "Make room, or point KURSNETT_CACHE elsewhere."
            ) from None
        raise Trouble(
            f"The Java archives could not be fetched ({type(error).__name__}).",
            "Is the network there, and does a proxy need HTTPS_PROXY? Then run the same command again: it goes on.",
        ) from error
    except RuntimeError as error:  # jgo's word for "no repository has it"
        raise Trouble(
            "A Java archive could not be fetched: no repository gave it.", "Check the network, then run it again."
        ) from error


def _fetch(jar: Jar, staging: Path, folder: Path) -> None:
    path = _download(jar.coordinate, staging)
    if digest(path) != jar.sha256:
        raise Trouble(
            f"What the network gave for {jar.coordinate} is not what deploy/local/jars.txt names "
            f"(SHA-256 {digest(path)[:12]}…, not {jar.sha256[:12]}…).",
            "It was thrown away. Try another network; if that does not help, do not trust the source.",
        )
    path.replace(folder / jar.file)  # only ever whole: an interrupted download stays in the staging folder


def _download(coordinate: str, staging: Path) -> Path:
    from jgo.maven import MavenContext

    group, artifact, version = coordinate.split(":")
    context: Any = MavenContext(repo_cache=staging, local_repos=[], timeout=30)
    return Path(context.project(group, artifact).at_version(version).artifact().resolve())


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def renew() -> None:
    """Print a new list, resolved from ENDPOINTS: `python -m deploy.local.jars > deploy/local/jars.txt`."""
    import jgo

    print("# Every Java archive that the local stack runs: program, SHA-256, coordinate, in class path order.")
    print("# Made by `python -m deploy.local.jars`; read the difference before you commit a new one.")
    for program, endpoint in ENDPOINTS.items():
        for artifact in jgo.resolve(endpoint):
            coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
            print(program, digest(artifact.resolve()), coordinate)


def main(arguments: list[str]) -> None:
    """`fetch` gets every archive that is not here yet; without a word, a new list is printed."""
    if arguments == ["fetch"]:
        folder = cache() / "jars"
        jars = {jar.file: jar for program in ENDPOINTS for jar in listed(program)}
        fetch(missing(list(jars.values()), folder), folder, lambda text: print(text, flush=True))
    else:
        renew()


if __name__ == "__main__":
    main(sys.argv[1:])
