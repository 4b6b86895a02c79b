"""openapi/peerd.yaml is valid, says all that is promised, and its examples are true to it."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel, TypeAdapter
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from app.api import models

DOCUMENT: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "openapi" / "peerd.yaml").read_text())
METHODS = {"get", "head", "post", "put", "patch", "delete"}

READ = {"get", "head"}
WRITE = {"post", "put", "patch", "delete"}
ROUTES = {
    "/v2/": READ,
    "/v2": READ | WRITE,
    "/v2/{name}/manifests/{reference}": READ,
    "/v2/{name}/blobs/{digest}": READ,
    "/v2/{path}": READ | WRITE,
    "/blobs/{url}": READ,
    "/healthz": READ,
    "/readyz": READ,
    "/metrics/prometheus": {"get"},
    "/docs": {"get"},
    "/docs/assets/{file}": {"get"},
    "/openapi.json": {"get"},
    "/": {"get"},
    "/page/{file}": {"get"},
    "/api/v1/status": {"get"},
    "/api/v1/members": {"get"},
    "/api/v1/contents": {"get"},
    "/api/v1/contents/{key}": {"delete"},
    "/api/v1/transfers": {"get"},
    "/api/v1/images": {"get"},
    "/api/v1/events": {"get"},
    "/api/v1/preheat": {"post"},
    "/api/v1/preheat/{id}": {"get"},
}

# In which answers a header is promised.
HEADERS = [
    ("get_blob", "200", {"Accept-Ranges", "Docker-Content-Digest", "ETag", "Cache-Status", "OCI-Namespace"}),
    ("head_blob", "200", {"Accept-Ranges", "Docker-Content-Digest", "ETag", "Content-Length"}),
    ("get_blob", "206", {"Content-Range", "Accept-Ranges", "Docker-Content-Digest", "ETag", "Cache-Status"}),
    ("get_blob", "416", {"Content-Range"}),
    ("get_manifest", "200", {"Docker-Content-Digest", "Content-Length", "Cache-Status", "OCI-Namespace"}),
    ("head_manifest", "200", {"Docker-Content-Digest", "Content-Length"}),
    ("get_version", "200", {"Docker-Distribution-Api-Version"}),
    ("get_file", "200", {"Accept-Ranges", "ETag", "Cache-Status"}),
    ("get_file", "206", {"Content-Range", "Accept-Ranges", "ETag", "Cache-Status"}),
    ("get_file", "401", {"WWW-Authenticate"}),
    ("get_file", "416", {"Content-Range"}),
    ("get_file", "503", {"Retry-After"}),
    ("put_upload", "405", {"Allow"}),
    ("start_preheat", "202", {"Location"}),
]

# What a client may say, by operation.
PARAMETERS = [
    ("get_manifest", {"ns", "OCI-Namespace", "Accept", "If-None-Match", "If-Match", "Authorization"}),
    ("get_blob", {"ns", "OCI-Namespace", "Range", "If-Range", "If-None-Match", "If-Match", "Authorization"}),
    ("get_file", {"Range", "If-Range", "If-None-Match", "If-Match", "Authorization"}),
]


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    """`value`, or the component that it refers to."""
    if "$ref" not in value:
        return value
    found: Any = DOCUMENT
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    assert isinstance(found, dict)
    return found


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        yield from ((path, method, operation) for method, operation in item.items() if method in METHODS)


def responses() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Operation, status and response, each response once an operation."""
    for _, _, operation in operations():
        for status, response in operation["responses"].items():
            yield operation["operationId"], status, resolved(response)


def parameters(path: str, operation: dict[str, Any]) -> list[dict[str, Any]]:
    return [resolved(p) for p in (*DOCUMENT["paths"][path].get("parameters", ()), *operation.get("parameters", ()))]


def operation_named(name: str) -> tuple[str, dict[str, Any]]:
    return next((path, operation) for path, _, operation in operations() if operation["operationId"] == name)


def examples(holder: dict[str, Any]) -> list[Any]:
    """The examples of a parameter, header or media type."""
    if "example" in holder:
        return [holder["example"]]
    return [resolved(example)["value"] for example in holder.get("examples", {}).values()]


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    resource = Resource.from_contents(DOCUMENT, default_specification=DRAFT202012)
    registry: Registry[Any] = Registry().with_resource("urn:peerd", resource)
    rebased = json.loads(json.dumps(schema).replace('"#/components/', '"urn:peerd#/components/'))
    return Draft202012Validator(rebased, registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER)


def ids(values: Any) -> list[str]:
    return ["-".join(str(part) for part in value[:2]) for value in values]


def test_it_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_it_has_the_routes_that_are_promised_and_no_others() -> None:
    assert {path: item.keys() & METHODS for path, item in DOCUMENT["paths"].items()} == ROUTES


def test_every_operation_has_a_name_a_summary_and_one_known_tag() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    for _, _, operation in operations():
        assert operation["summary"], operation
        assert len(operation["tags"]) == 1, operation
        assert set(operation["tags"]) <= tags, operation


@pytest.mark.parametrize(("name", "wanted"), PARAMETERS)
def test_what_a_client_may_say_is_told(name: str, wanted: set[str]) -> None:
    assert wanted <= {parameter["name"] for parameter in parameters(*operation_named(name))}


def test_every_request_may_name_itself_and_every_answer_names_request_and_node() -> None:
    for path, _, operation in operations():
        assert "X-MS-Peerd-CorrelationId" in {p["name"] for p in parameters(path, operation)}, operation["operationId"]
    for name, status, response in responses():
        assert {"X-MS-Peerd-Node", "X-MS-Peerd-CorrelationId"} <= response["headers"].keys(), (name, status)


@pytest.mark.parametrize(("name", "status", "wanted"), HEADERS, ids=ids(HEADERS))
def test_the_headers_of_an_answer_are_told(name: str, status: str, wanted: set[str]) -> None:
    response = resolved(operation_named(name)[1]["responses"][status])
    assert wanted <= response["headers"].keys()


def test_every_parameter_and_every_header_has_an_example_that_is_right() -> None:
    holders = [(p["name"], p) for path, _, operation in operations() for p in parameters(path, operation)]
    holders += [(h, resolved(header)) for _, _, r in responses() for h, header in r["headers"].items()]
    for name, holder in holders:
        assert examples(holder), name
        for example in examples(holder):
            validator(holder["schema"]).validate(example)


BODIES = [
    (name, status, media_type, holder)
    for name, status, response in responses()
    for media_type, holder in response.get("content", {}).items()
]


@pytest.mark.parametrize(("name", "status", "media_type", "holder"), BODIES, ids=ids(BODIES))
def test_every_body_has_an_example_that_is_right(name: str, status: str, media_type: str, holder: Any) -> None:
    assert examples(holder)
    for example in examples(holder):
        validator(holder["schema"]).validate(example)
        json.dumps(example)  # A date that YAML has read as a date can not be served.


def test_every_request_body_has_an_example_that_is_right() -> None:
    bodies = [operation["requestBody"]["content"] for _, _, operation in operations() if "requestBody" in operation]
    assert bodies
    for content in bodies:
        for holder in content.values():
            assert examples(holder)
            for example in examples(holder):
                validator(holder["schema"]).validate(example)


def test_only_answers_without_a_body_have_no_content() -> None:
    for path, method, operation in operations():
        for status, response in operation["responses"].items():
            bare = status == "304" or path in {"/v2", "/v2/"} or (method == "head" and status == "200")
            if not bare:
                assert resolved(response)["content"], (operation["operationId"], status)


def test_errors_are_oci_documents_under_v2_and_problem_documents_elsewhere() -> None:
    seen = 0
    for path, _, operation in operations():
        mirrored = path == "/v2" or path.startswith("/v2/")
        media_type, schema = ("application/json", "OciErrors") if mirrored else ("application/problem+json", "Problem")
        for status, response in operation["responses"].items():
            if status >= "400":
                seen += 1
                content = resolved(response)["content"]
                assert list(content) == [media_type], (operation["operationId"], status)
                assert content[media_type]["schema"] == {"$ref": f"#/components/schemas/{schema}"}
                for example in examples(content[media_type]):
                    assert mirrored or example["status"] == int(status), (operation["operationId"], status)
    assert seen


def test_the_mirror_never_answers_what_containerd_does_not_forgive() -> None:
    for path, _, operation in operations():
        if path.startswith("/v2"):
            assert not {"401", "403", "408", "429", "502", "503"} & operation["responses"].keys()


def test_the_files_door_passes_on_what_upstream_says() -> None:
    _, operation = operation_named("get_file")
    statuses = {"200", "206", "304", "400", "401", "403", "404", "412", "416", "500", "502", "503"}
    assert operation["responses"].keys() == statuses


def test_head_says_what_get_says_without_range() -> None:
    for path, item in DOCUMENT["paths"].items():
        if item.keys() >= READ:
            assert item["get"]["responses"].keys() - {"206", "416"} == item["head"]["responses"].keys(), path


def test_the_blob_of_the_examples_has_the_digest_of_the_examples() -> None:
    _, operation = operation_named("get_blob")
    whole = operation["responses"]["200"]["content"]["application/octet-stream"]["example"].encode()
    digest = DOCUMENT["components"]["headers"]["ContentDigest"]["example"]
    assert digest == f"sha256:{hashlib.sha256(whole).hexdigest()}"
    assert DOCUMENT["components"]["headers"]["ContentLength"]["example"] == len(whole)
    part = operation["responses"]["206"]["content"]["application/octet-stream"]["example"].encode()
    assert DOCUMENT["components"]["headers"]["ContentRange"]["example"] == f"bytes 0-{len(part) - 1}/{len(whole)}"
    assert whole.startswith(part)


def test_the_index_of_the_examples_names_the_manifest_of_the_examples() -> None:
    content = operation_named("get_manifest")[1]["responses"]["200"]["content"]
    manifest = json.dumps(content["application/vnd.oci.image.manifest.v1+json"]["example"], separators=(",", ":"))
    (entry,) = content["application/vnd.oci.image.index.v1+json"]["example"]["manifests"]
    assert entry["digest"] == f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
    assert entry["size"] == len(manifest)


def test_the_saved_bytes_of_the_example_are_counted_as_described() -> None:
    status = operation_named("get_status")[1]["responses"]["200"]["content"]["application/json"]["example"]
    moved = status["bytes"]
    assert status["saved_upstream_bytes"] == sum(moved["served"].values()) - moved["received"]["upstream"]


def test_each_event_of_the_example_is_one_that_is_described() -> None:
    content = operation_named("stream_events")[1]["responses"]["200"]["content"]["text/event-stream"]
    events = []
    for block in content["example"].split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            events.append({"event": fields["event"], "data": json.loads(fields["data"])})
    assert events
    for event in events:
        validator(content["x-item-schema"]).validate(event)
        assert TypeAdapter(models.Event).validate_python(event).root.event == event["event"]


@pytest.mark.parametrize(
    ("name", "status", "holder"),
    [(n, s, h) for n, s, m, h in BODIES if m == "application/json" and n != "get_openapi"],
)
def test_the_models_read_and_write_the_examples(name: str, status: str, holder: dict[str, Any]) -> None:
    model: type[BaseModel] = getattr(models, holder["schema"]["$ref"].rpartition("/")[2])
    for example in examples(holder):
        assert json.loads(model.model_validate(example).model_dump_json()) == example


def test_every_schema_and_property_is_explained() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert schema["description"], name
        for key, value in schema.get("properties", {}).items():
            assert "$ref" in value or value.get("description") or "const" in value, f"{name}.{key}"
