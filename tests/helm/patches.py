"""What a patch makes of an object (Kubernetes, "Update API Objects in Place Using kubectl patch")."""

from typing import Any

from tests.helm.chart import Document

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

# Lists whose elements are told apart by a field, as far as the chart has them; other lists are replaced as a whole
# (`patchMergeKey` in Kubernetes' types).
_KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port"),
}


def patched(document: Document, patch: Document, media_type: str) -> Document:
    """The object after a patch of that type."""
    if media_type == MERGE:
        return _merged(document, patch, lists={})
    assert media_type == STRATEGIC, f"no patch that is known here: {media_type}"
    return _merged(document, patch, lists=_KEYS)


def _merged(old: Document, patch: Document, *, lists: dict[str, tuple[str, ...]]) -> Document:
    """RFC 7396; with `lists`, lists of these names element by element, and with directives."""
    new = dict(old)
    if lists and "$retainKeys" in patch:
        new = {key: value for key, value in new.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        if lists and key.startswith("$"):
            assert key == "$retainKeys" or key.startswith("$setElementOrder/"), f"a directive not known here: {key}"
        elif value is None:
            new.pop(key, None)
        elif isinstance(value, dict):
            there = new.get(key)
            new[key] = _merged(there if isinstance(there, dict) else {}, value, lists=lists)
        elif key in lists and key in new:
            new[key] = _elements(new[key], value, key=next(one for one in lists[key] if one in value[0]), lists=lists)
        else:
            new[key] = value
    return new


def _elements(old: list[Any], patch: list[Any], *, key: str, lists: dict[str, tuple[str, ...]]) -> list[Any]:
    elements = {one[key]: one for one in old}
    for change in patch:
        if change.get("$patch") == "delete":
            elements.pop(change[key], None)
        else:
            elements[change[key]] = _merged(elements.get(change[key], {}), change, lists=lists)
    return list(elements.values())
