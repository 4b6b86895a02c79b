"""The routes that the templates write, drawn from the operations of the description.

Owns: what a route of ours looks like, for fastapi-code-generator, whose own idea of a route is one stub an operation. Operations of
one path that share a handler become one route: GET and HEAD are then one function, and `Allow` of a 405 names both.
The extensions (`x-…`) are explained at the top of openapi/peerd.yaml.
"""

import builtins
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi_code_generator.parser import OpenAPIParser  # type: ignore[import-untyped]

_PYTHON_TYPES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}
_CONSTRAINTS = {
    "minimum": "ge",
    "maximum": "le",
    "minLength": "min_length",
    "maxLength": "max_length",
    "pattern": "pattern",
}


@dataclass(slots=True)
class Argument:
    """One parameter of a route function, handed to the handler under the same name."""

    name: str
    annotation: str
    default: str | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.annotation}" + (f" = {self.default}" if self.default is not None else "")


@dataclass(slots=True)
class Route:
    """One route function: a path, its methods, and the handler that answers them.

    Attributes:
        path: as Starlette writes it, `{name:path}` where slashes are taken.
        model: name of the model that the handler may return instead of a response, or None.
        status_code: of an answer given as a model.
    """

    tag: str
    path: str
    handler: str
    function: str
    summary: str
    methods: list[str]
    arguments: list[Argument]
    model: str | None
    status_code: int
    body: str | None = field(default=None)

    @property
    def returns(self) -> str:
        """The annotation of what the route returns."""
        return f"{self.model} | Response" if self.model else "Response"

    @property
    def models(self) -> set[str]:
        """Names to import from the generated models."""
        return {name for name in (self.model, self.body) if name}


def visit(parser: OpenAPIParser, _model_path: Path) -> dict[str, object]:
    """What the templates find beside the generator's own variables: `routes`, and `tag_names` in the order of the description."""
    document = parser.raw_obj
    routes: dict[tuple[str, str], Route] = {}
    for operation in parser.operations.values():
        path = operation.path.raw
        route = _route(document, path, str(operation.method), document["paths"][path][operation.method])
        known = routes.setdefault((path, route.handler), route)
        if known is not route:
            known.methods += route.methods
            if [str(a) for a in known.arguments] != [str(a) for a in route.arguments]:
                raise ValueError(f"{path}: operations that share the handler {route.handler} take different parameters")
    _name_apart(list(routes.values()))
    return {"routes": list(routes.values()), "tag_names": [tag["name"] for tag in document["tags"]]}


def _name_apart(routes: list[Route]) -> None:
    """Give each route function a name of its own: its handler's, or that of its first operation where another has taken it."""
    taken: set[tuple[str, str]] = set()
    for route in routes:
        if (route.tag, route.handler) not in taken:
            taken.add((route.tag, route.handler))
            route.function = route.handler


def _route(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> Route:
    parameters = [_resolved(document, parameter) for parameter in operation.get("parameters", ())]
    for parameter in parameters:
        if parameter.get("x-takes-slashes"):
            path = path.replace(f"{{{parameter['name']}}}", f"{{{parameter['name']}:path}}")
    arguments = [_argument(p) for p in parameters if not p.get("x-read-from-request")]
    body = _json_model(operation.get("requestBody"))
    if body:
        arguments.append(Argument("body", body))
    status_code, answer = _success(document, operation)
    return Route(
        tag=operation["tags"][0],
        path=path,
        handler=operation.get("x-handler", operation["operationId"]),
        function=operation["operationId"],
        summary=operation["summary"],
        methods=[method.upper()],
        arguments=sorted(arguments, key=lambda argument: argument.default is not None),
        model=_json_model(answer),
        status_code=status_code,
        body=body,
    )


def _argument(parameter: dict[str, Any]) -> Argument:
    schema = parameter["schema"]
    name = re.sub(r"\W", "_", parameter["name"]).lower()
    if keyword.iskeyword(name) or hasattr(builtins, name):
        name += "_"
    settings = list(_settings(parameter, schema, name))
    optional = not parameter.get("required") and "default" not in schema
    annotation = _PYTHON_TYPES[schema["type"]] + (" | None" if optional else "")
    if settings or parameter["in"] == "header":
        annotation = f"Annotated[{annotation}, {parameter['in'].capitalize()}({', '.join(settings)})]"
    default = None if parameter.get("required") else repr(schema.get("default"))
    return Argument(name, annotation, default)


def _settings(parameter: dict[str, Any], schema: dict[str, Any], name: str) -> Iterator[str]:
    # FastAPI derives a header's name from the argument's by turning "_" into "-"; case does not matter to it.
    derived = name.replace("_", "-") if parameter["in"] == "header" else name
    if parameter["name"].lower() != derived:
        yield f"alias={parameter['name']!r}"
    for word, argument in _CONSTRAINTS.items():
        if word in schema:
            yield f"{argument}={schema[word]!r}"


def _success(document: dict[str, Any], operation: dict[str, Any]) -> tuple[int, dict[str, Any] | None]:
    for status, response in operation["responses"].items():
        if status.startswith("2"):
            return int(status), _resolved(document, response)
    return 200, None


def _json_model(holder: dict[str, Any] | None) -> str | None:
    """The model's name, where the content is JSON and nothing else and has a schema of its own."""
    content = (holder or {}).get("content", {})
    if list(content) != ["application/json"]:
        return None
    reference = content["application/json"]["schema"].get("$ref")
    return reference.rpartition("/")[2] if reference else None


def _resolved(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """`value`, or the component it refers to."""
    if "$ref" not in value:
        return value
    found: Any = document
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return dict(found)
