"""Writes each service's OpenAPI document to contracts/http (`make contracts`); the services need not run."""

import importlib
from pathlib import Path

from contracts import golden
from contracts.topics import SERVICES
from kit.http import routed

HTTP = golden.HERE / "http"


def files(folder: Path = HTTP) -> dict[Path, str]:
    """What each service's file must hold: what it serves itself at /openapi.json, sorted."""
    return {folder / f"{name}.openapi.json": golden.text(document(name)) for name in SERVICES}


def document(service: str) -> dict[str, object]:
    return routed(service, importlib.import_module(f"services.{service}.app").ROUTERS).openapi()


def stale(folder: Path = HTTP) -> list[str]:
    """Which files are not as they should be, one line each; none when all is well."""
    return golden.differing(files(folder), folder)


def main() -> None:
    print("\n".join(golden.put(files(), HTTP)) or "All HTTP documents were current.")


if __name__ == "__main__":
    main()
