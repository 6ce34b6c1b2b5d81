"""What a service's OpenAPI document says of problems: their shape, and which each address may answer with."""

from collections.abc import Mapping, Sequence
from typing import Any

from kit.problems import CONTENT_TYPE

Document = dict[str, Any]

SCHEMA: Document = {
    "title": "Problem",
    "description": "RFC 9457. `type` is an address that explains this kind of problem; other members may follow.",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
# Each says by which kinds of problem that is told anywhere; a route adds those of its own.
MEANINGS = {
    400: "The request is malformed: `malformed-request`, or `idempotency-key-invalid`.",
    401: "Log in first: a token or key is missing, or is not valid here or no longer. `unauthenticated`.",
    403: "You are known, but this is not yours to see or do: `forbidden`, `not-this-partner`, or `partner-suspended`.",
    404: "There is nothing at this address, or it is not yours to see: `not-found`.",
    406: "It cannot be had in the version that `Accept` asks for: `version-not-acceptable`.",
    409: "This cannot be done in the present state of things; `detail` says why. `conflict`, or `request-in-progress`.",
    412: "It has changed since you read it: `If-Match` names another version. `precondition-failed`.",
    413: "The body is too large: `body-too-large`.",
    415: "The body must be sent as application/json: `wrong-content-type`.",
    422: "Something in the request will not do; `errors` names each field. Nothing was done. `invalid`, "
    "`malformed-json`, or `idempotency-key-reused`.",
    429: "Too often: ask again after `Retry-After` seconds. `too-many-requests`.",
    500: "A fault of ours; it is logged under `request_id`: `internal-error`.",
    503: "Ask again after `Retry-After` seconds, with the same Idempotency-Key: `busy`, or `outcome-unknown` when "
    "nobody knows whether it was done.",
}
_ALSO = " Here also: "


def problems(*statuses: int, kinds: Mapping[int, Sequence[str]] | None = None) -> dict[int | str, Document]:
    """The `responses` of a route that may answer with these, beside those that follow from what it is (`complete`).

    `kinds`: status -> the kinds of problem of this route's own, by their slugs.
    """
    own = kinds or {}
    return {status: _reference(status, own.get(status, ())) for status in (*statuses, *own)}


def _reference(status: int | str, kinds: Sequence[str] = ()) -> Document:
    """What is said beside a reference stands instead of what the referenced one says (OpenAPI 3.1)."""
    reference = {"$ref": f"#/components/responses/{status}"}
    if not kinds:
        return reference
    also = ", ".join(f"`{kind}`" for kind in kinds)
    return {**reference, "description": f"{MEANINGS[int(status)]}{_ALSO}{also}."}


def _answer(meaning: str) -> Document:
    return {
        "description": meaning,
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


ANY: dict[int | str, Document] = {"default": _answer("Not what was asked for.")}


def complete(document: Document) -> Document:
    """The document with the shape of a problem, and with the problems that each operation's own shape brings about."""
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = SCHEMA
    shared = components["responses"] = {str(status): _answer(meaning) for status, meaning in MEANINGS.items()}
    for path in document.get("paths", {}).values():
        for method, operation in path.items():
            known = operation["responses"]
            told = known.keys() & shared.keys() | {str(status) for status in _follow(method, operation)}
            plain = {status for status in told if _ALSO not in known.get(status, {}).get("description", "")}
            operation["responses"] = dict(sorted({**known, **{status: _reference(status) for status in plain}}.items()))
    return document


def _follow(method: str, operation: Document) -> set[int]:
    found = {400, 500, 503}
    parameters = operation.get("parameters", [])
    if operation.get("security"):
        found.add(401)
    if parameters:
        found.add(422)
    if method in ("post", "put", "patch"):
        found.add(413)  # a body that nobody reads is refused as well
    if "requestBody" in operation:
        found |= {415, 422}
    if any(one["name"].lower() == "idempotency-key" for one in parameters):
        found |= {409, 422}  # the same request is under way, or another came under this key
    return found


def queries(document: Document) -> dict[tuple[str, str], list[str]]:
    """(method, path) -> the query parameters that it takes."""
    return {
        (method.upper(), path): [one["name"] for one in operation.get("parameters", []) if one["in"] == "query"]
        for path, operations in document.get("paths", {}).items()
        for method, operation in operations.items()
    }
