"""Request bodies that take no field they do not know, made of models that as events pass such fields over."""

from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema


class Whole:
    """Marks a body, `Annotated[Model, Whole()]`: a misspelt field is named, never dropped, in its parts too.

    An event is read more leniently: there a strange field is a newer writer's.
    """

    def __get_pydantic_core_schema__(self, source: type[BaseModel], handler: GetCoreSchemaHandler) -> CoreSchema:
        def check(value: Any, _: Any) -> Any:
            return source.model_validate(value, extra="forbid")

        return core_schema.no_info_wrap_validator_function(check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = handler(schema)
        _close(found, handler)
        return found


def _close(schema: Any, handler: GetJsonSchemaHandler) -> None:
    """Write into a JSON schema and its parts that they take no other fields."""
    if isinstance(schema, list):
        for part in schema:
            _close(part, handler)
    elif isinstance(schema, dict):
        schema = handler.resolve_ref_schema(schema) if "$ref" in schema else schema
        if "properties" in schema:
            schema["additionalProperties"] = False
        for part in schema.values():
            _close(part, handler)
