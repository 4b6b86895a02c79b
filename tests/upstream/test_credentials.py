import json
from base64 import b64encode
from pathlib import Path

import pytest

from app.upstream.credentials import Credential, CredentialFile

AUTH = b64encode(b"me:pass:word").decode()
ME = Credential("me", "pass:word")


def config(tmp_path: Path, auths: dict, **rest) -> CredentialFile:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"auths": auths, **rest}))
    return CredentialFile(path)


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("ghcr.io", "ghcr.io"),
        ("GHCR.io", "ghcr.IO"),
        ("https://ghcr.io", "ghcr.io"),
        ("https://ghcr.io/", "ghcr.io"),
        ("http://localhost:5000/v2/", "localhost:5000"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("https://index.docker.io/v1/", "index.docker.io"),
        ("quay.io/team", "quay.io"),
        ("quay.io/team/app", "quay.io"),
    ],
)
def test_keys_that_mean_a_registry(tmp_path: Path, key: str, registry: str) -> None:
    assert config(tmp_path, {key: {"auth": AUTH}}).find(registry, "team/app") == ME


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("ghcr.io", "evil-ghcr.io"),
        ("ghcr.io", "ghcr.io:5000"),
        ("localhost:5000", "localhost"),
        ("quay.io/tea", "quay.io"),
        ("quay.io/team/app/more", "quay.io"),
    ],
)
def test_keys_that_mean_another(tmp_path: Path, key: str, registry: str) -> None:
    assert config(tmp_path, {key: {"auth": AUTH}}).find(registry, "team/app") is None


def test_the_most_specific_entry_counts(tmp_path: Path) -> None:
    file = config(
        tmp_path,
        {
            "quay.io": {"auth": AUTH},
            "quay.io/team": {"username": "team", "password": "x"},
            "quay.io/team/app": {"auth": ""},
        },
    )
    assert file.find("quay.io", "team/app") == Credential("team", "x")
    assert file.find("quay.io", "other/app") == ME


@pytest.mark.parametrize(
    ("entry", "want"),
    [
        pytest.param({"auth": AUTH}, ME, id="auth"),
        pytest.param({"username": "me", "password": "pass:word"}, ME, id="in the clear"),
        pytest.param({"auth": b64encode(b"me:pass:word\0\0").decode()}, ME, id="padded with NUL"),
        pytest.param({"auth": AUTH, "username": "x", "password": "y"}, ME, id="auth counts first"),
        pytest.param({"auth": "%%%", "username": "me", "password": "pass:word"}, ME, id="auth that can not be read"),
        pytest.param({"auth": AUTH, "identitytoken": "T"}, Credential("me", "", "T"), id="an identity token"),
        pytest.param({"identitytoken": "T"}, Credential("", "", "T"), id="an identity token alone"),
        pytest.param({}, None, id="empty: a helper has it"),
        pytest.param({"auth": b64encode(b"no colon").decode()}, None, id="no pair"),
        pytest.param({"username": 1, "password": 2}, None, id="numbers"),
        pytest.param("nonsense", None, id="no object"),
    ],
)
def test_entries(tmp_path: Path, entry: object, want: Credential | None) -> None:
    assert config(tmp_path, {"ghcr.io": entry}).find("ghcr.io", "a/b") == want


def test_the_file_is_read_anew_each_time(tmp_path: Path) -> None:
    file = config(tmp_path, {})
    assert file.find("ghcr.io", "a") is None
    config(tmp_path, {"ghcr.io": {"auth": AUTH}})
    assert file.find("ghcr.io", "a") == ME


@pytest.mark.parametrize("text", ["", "{", "[]", '{"auths": []}', "\ud800"])
def test_a_file_that_is_none(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(ValueError, match=r"is not a Docker config\.json"):
        CredentialFile(path).check()
    assert CredentialFile(path).find("ghcr.io", "a") is None
    assert "not used for now" in caplog.text


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can not be read"):
        CredentialFile(tmp_path / "missing").check()
    assert CredentialFile(tmp_path / "missing").find("ghcr.io", "a") is None


def test_helpers_are_not_run_and_that_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config(tmp_path, {}, credsStore="desktop").check()
    assert "helpers" in caplog.text


def test_no_file() -> None:
    CredentialFile(None).check()
    assert CredentialFile(None).find("ghcr.io", "a") is None


def test_nothing_secret_in_a_representation() -> None:
    assert "pass" not in repr(ME)
    assert "SECRET" not in repr(Credential("", "", "SECRET"))


@pytest.mark.parametrize(
    ("authorization", "want"),
    [
        (f"Basic {AUTH}", ME),
        (f"basic  {AUTH}", ME),
        ("Bearer abc", None),
        ("Basic ?", None),
        ("", None),
        (None, None),
    ],
)
def test_a_clients_own(authorization: str | None, want: Credential | None) -> None:
    assert Credential.from_basic(authorization) == want


def test_basic() -> None:
    assert ME.basic == f"Basic {AUTH}"
