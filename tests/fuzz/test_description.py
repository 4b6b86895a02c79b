"""What the API's description says is what a node does: schemathesis asks whatever the description allows, and what it does not."""

from pathlib import Path

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, given, seed, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.fuzz.answers import SOURCES
from tests.fuzz.conftest import CASES, FILE, MANIFEST, REGISTRY_NAME, SEED, Fuzzed
from tests.support.made import digest_of

TEXT = (Path(__file__).parents[2] / "openapi" / "peerd.yaml").read_text()
ENDLESS = "/api/v1/events"
OPERATIONS = [
    f"{method.upper()} {path}"
    for path, operations in yaml.safe_load(TEXT)["paths"].items()
    for method in operations
    if path != ENDLESS
]
DEMANDING = ["POST /api/v1/preheat", "GET /api/v1/contents", "DELETE /api/v1/contents/{key}"]
"""Those with a parameter or body that is more than any text."""

CASES_EACH = max(5, CASES // 100)

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    allow_header_conformance,
    unsupported_method,
]
DOCUMENTED_FAULTS = (502, 503)
"""Of an upstream, or of a node that drains. 500 is in the description too, for clients; here it would be a mistake."""

EXAMPLES = {
    "https://account.blob.core.windows.net/layers/hello.txt": "http://ORIGIN/file",
    "https%3A%2F%2Faccount.blob.core.windows.net%2Flayers%2Fhello.txt": "http%3A%2F%2FORIGIN%2Ffile",
    "sha256:c3229003e05185baa8b2ef8e9cca3c84f2827acc4dd50bcf888ea48a5a67aa90": digest_of(FILE),
    "sha256:151d6fa038e2310ce61a8d19738061032ef8cb3951f05466a321c0c9fc077ceb": digest_of(MANIFEST),
    "library/app": "app",
    "example: docker.io": f"example: {REGISTRY_NAME}",
    "value: v1 ": "value: 1 ",
    "Bearer eyJhbGciOi…": "Bearer eyJhbGciOi",
}
"""What the description's examples are here, since schemathesis asks for these too."""


def operation_of(label: str, origin: str) -> APIOperation:
    """An operation of the description with examples that mean something here."""
    text = TEXT
    for example, here in EXAMPLES.items():
        assert example in text
        text = text.replace(example, here.replace("ORIGIN", origin))
    method, path = label.split(" ")
    return schemathesis.openapi.from_dict(yaml.safe_load(text))[path][method]


def ask(fuzzed: Fuzzed, case: Case) -> None:
    """One request, whose answer is as described."""
    response = case.call(base_url=f"http://{fuzzed.node.netloc}", timeout=20)
    excluded = [not_a_server_error] if response.status_code in DOCUMENTED_FAULTS else []
    case.validate_response(response, checks=[not_a_server_error, *CHECKS], excluded_checks=excluded)
    text = response.content.decode("latin-1")
    assert response.status_code == 200 or not any(source in text for source in SOURCES), text[:500]


def ask_all(fuzzed: Fuzzed, label: str, mode: GenerationMode) -> None:
    """As many as there are to be, of one operation."""

    @seed(SEED)
    @settings(max_examples=CASES_EACH, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operation_of(label, fuzzed.origin).as_strategy(mode))
    def answers_as_described(case: Case) -> None:
        ask(fuzzed, case)

    answers_as_described()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("label", OPERATIONS)
def test_what_the_description_allows_is_answered_as_it_says(label: str, fuzzed: Fuzzed) -> None:
    ask_all(fuzzed, label, GenerationMode.POSITIVE)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("label", DEMANDING)
def test_what_it_does_not_allow_is_answered_as_it_says_too(label: str, fuzzed: Fuzzed) -> None:
    ask_all(fuzzed, label, GenerationMode.NEGATIVE)
