"""The HTTP documents: golden files of what each service serves, valid, and true of bodies and of problems."""

import ast
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter
from openapi_spec_validator import OpenAPIV31SpecValidator
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError

from contracts import golden
from contracts.topics import SERVICES
from deploy import openapi
from kit import problems
from kit.http import routed
from tests.web import beside_the_document

ROOT = Path(__file__).parents[2]
each_service = pytest.mark.parametrize("service", SERVICES)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_golden_http_documents_are_current() -> None:
    assert openapi.stale() == [], "an HTTP API has changed: run `make contracts`, and commit what it writes"


def test_a_changed_api_makes_the_golden_file_stale(tmp_path: Path) -> None:
    folder = tmp_path / "contracts" / "http"
    folder.mkdir(parents=True)
    assert len(golden.put(openapi.files(folder), folder)) == len(SERVICES)
    assert openapi.stale(folder) == []
    router = APIRouter()
    router.get("/api/catalogue/v1/new")(lambda: None)
    app = routed("catalogue", [*importlib.import_module("services.catalogue.app").ROUTERS, router])
    (folder / "catalogue.openapi.json").write_text(golden.text(app.openapi()))
    (folder / "gone.openapi.json").write_text("{}")
    assert openapi.stale(folder) == [
        "contracts/http/catalogue.openapi.json: out of date",
        "contracts/http/gone.openapi.json: belongs to nothing",
    ]


@each_service
def test_a_document_is_valid_openapi_3_1(service: str) -> None:
    document = json.loads((openapi.HTTP / f"{service}.openapi.json").read_text())
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()
    broken = {**document, "paths": {"/a": {"get": {"responses": {"200": {}}}}}}
    with pytest.raises(OpenAPIValidationError):
        OpenAPIV31SpecValidator(broken).validate()


@each_service
def test_every_route_tells_its_problems(service: str) -> None:
    document = routed(service, importlib.import_module(f"services.{service}.app").ROUTERS).openapi()
    for name, operation in operations(document):
        answers = operation["responses"]
        assert {"400", "500", "503"} <= answers.keys(), name
        assert ("401" in answers) == ("security" in operation), name
        assert ("415" in answers) == ("requestBody" in operation), name
        for status, answer in answers.items():
            if status.startswith(("4", "5")):
                assert answer["$ref"] == f"#/components/responses/{status}", name
    for answer in document["components"]["responses"].values():
        assert list(answer["content"]) == [problems.CONTENT_TYPE]


@each_service
def test_every_body_is_described_field_by_field_and_takes_no_other(service: str) -> None:
    document = json.loads((openapi.HTTP / f"{service}.openapi.json").read_text())
    for name, operation in operations(document):
        if "application/json" not in operation.get("requestBody", {}).get("content", {}):
            continue  # a file of courses has columns, not fields
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        reference = schema.get("$ref") or schema["anyOf"][0]["$ref"]
        body = document["components"]["schemas"][reference.rpartition("/")[2]]
        assert body["properties"], name
        assert body["additionalProperties"] is False, name


def test_an_answer_beside_its_document_is_found() -> None:
    document = openapi.document("catalogue")
    request = httpx2.Request("GET", "http://x/api/catalogue/v1/courses")

    def said(status: int, kind: str, body: object) -> str:
        content = json.dumps(body).encode()
        answer = httpx2.Response(status, headers={"content-type": kind}, content=content, request=request)
        return beside_the_document(document, answer)

    assert said(200, "application/json", {"items": []}) == ""
    assert said(200, "application/json", {"items": [{}]}).startswith("$.items[0]: ")
    assert said(200, "text/html", {"items": []}) == "content type text/html is not described"
    assert said(409, problems.CONTENT_TYPE, {}) == "status 409 is not described"
    assert said(503, problems.CONTENT_TYPE, {"type": "a", "title": "b", "status": 503}) == ""


# Kinds of problem

# No program meets these: they are told on pages, or by a method that no route takes, which no document has.
ON_PAGES = {"form-not-ours", "link-not-valid", "link-used", "method-not-allowed"}


def test_every_kind_of_problem_that_a_program_can_meet_stands_in_a_document() -> None:
    for service in SERVICES:
        importlib.import_module(f"services.{service}.app")
    texts = [(openapi.HTTP / f"{service}.openapi.json").read_text() for service in SERVICES]
    assert {slug for slug in problems.KINDS if not any(f"`{slug}`" in text for text in texts)} == ON_PAGES


def test_a_route_names_the_kinds_of_problem_of_its_own() -> None:
    document: Any = openapi.document("enrolment")
    asking = document["paths"]["/api/enrolment/v1/offerings/{offering_id}/enrolments"]["post"]["responses"]
    assert "`already-enrolled`, `offering-closed`, `not-open-yet`, `other-group`" in asking["409"]["description"]
    named = {
        slug
        for service in SERVICES
        for also in re.findall("Here also: ([^.]+)", (openapi.HTTP / f"{service}.openapi.json").read_text())
        for slug in re.findall("`([^`]+)`", also)
    }
    assert "already-enrolled" in named
    assert named <= problems.KINDS.keys(), "each has its page"


def raised(text: str) -> Iterator[tuple[str, str]]:
    """(slug, title) of each problem that a module makes with words of its own."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Problem") and len(node.args) >= 3:
            slug, title = node.args[:2]
            if isinstance(slug, ast.Constant) and isinstance(title, ast.Constant):
                yield str(slug.value), str(title.value)


def unexplained(found: Iterator[tuple[str, str]]) -> list[str]:
    known = {kind.slug: kind.title for kind in problems.KINDS.values()}
    return sorted({f"{slug}: {title}" for slug, title in found if known.get(slug) != title})


def test_every_problem_that_is_raised_is_explained_under_the_same_title() -> None:
    paths = [*ROOT.glob("kit/*.py"), *ROOT.glob("services/**/*.py")]
    for service in SERVICES:
        importlib.import_module(f"services.{service}.app")
    found = [one for path in paths for one in raised(path.read_text("utf-8"))]
    assert len(found) > 20, "the search looks at the wrong names"
    assert unexplained(iter(found)) == [], "give it its page with problems.explain, beside where it is raised"


def test_a_problem_without_a_page_is_found() -> None:
    text = 'raise Problem("too-late", "Too late", 409)\nraise Problem("conflict", "Clash", 409, "words")'
    assert unexplained(raised(text)) == ["conflict: Clash", "too-late: Too late"]
