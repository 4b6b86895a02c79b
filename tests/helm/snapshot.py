"""What the chart makes of its own defaults; `python -m tests.helm.snapshot` writes default.yaml anew."""

from pathlib import Path

import yaml

from tests.helm.chart import Document, render

FILE = Path(__file__).with_name("default.yaml")


def rendered() -> str:
    """As YAML without comments, without what is by chance, and without the text of files."""
    documents = render()
    for document in documents:
        if document["kind"] == "Secret":
            document["data"] = dict.fromkeys(document["data"], "(by chance)")
        if document["kind"] == "ConfigMap":
            document["data"] = dict.fromkeys(document["data"], "(a file of the chart)")
    return yaml.safe_dump_all(sorted(documents, key=_place), sort_keys=True, width=120)


def _place(document: Document) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]


if __name__ == "__main__":
    FILE.write_text(rendered())
