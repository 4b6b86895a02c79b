import pytest

from app.content.digest import Digest
from app.content.url_digest import digest_in_url

HEX = "ab" + "0123456789abcdef" * 3 + "0123456789abcd"
WANT = Digest("sha256", HEX)
PATH = f"docker/registry/v2/blobs/sha256/ab/{HEX}/data"
NAMED = frozenset({"example.local:5500"})


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"https://me.azurecr.io/?se=1&d=sha256:{HEX}&sig=x", id="Azure's data endpoint"),
        pytest.param(f"https://me.azurecr.io?se=1&d=sha256:{HEX}", id="without the slash (Azure/peerd #54)"),
        pytest.param(f"https://me.azurecr.io/?d=sha256%3A{HEX}&u=%2b", id="escaped, and the first parameter"),
        pytest.param(f"https://my-reg.westus2.data.azurecr.io/?P=1&d=sha256:{HEX}", id="a dedicated data endpoint"),
        pytest.param(f"https://ME.AzureCR.cn/?d=sha256:{HEX}", id="another cloud, in capitals"),
        pytest.param(f"https://me.azurecr.us/v2/a/b/blobs/sha256:{HEX}", id="the registry itself"),
        pytest.param(
            f"https://westus2.data.mcr.microsoft.com/01031d61-e1024abc//{PATH}?P=1", id="Microsoft's registry"
        ),
        pytest.param(f"https://eus2.blob.core.windows.net/0123abc//{PATH}?sv=1&sig=x", id="blob storage"),
        pytest.param(f"https://eus2.z12.blob.storage.azure.net/0123abc//{PATH}", id="blob storage, DNS zone endpoint"),
        pytest.param(f"https://a123.blob.core.chinacloudapi.cn/c/{PATH}", id="blob storage in China"),
        pytest.param(f"http://example.local:5500/v2/test/app/blobs/sha256:{HEX}", id="a named registry, over http"),
        pytest.param(f"https://EXAMPLE.local:5500/{PATH}", id="a named registry's storage"),
    ],
)
def test_a_digest_that_is_believed(url: str) -> None:
    assert digest_in_url(url, registry_hosts=NAMED) == WANT


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(
            f"https://evil.example/?u=https://me.azurecr.io/?d=sha256:{HEX}", id="a registry's URL within another"
        ),
        pytest.param(f"https://me.azurecr.io.evil.example/?d=sha256:{HEX}", id="a host that begins alike"),
        pytest.param(f"https://evilazurecr.io/?d=sha256:{HEX}", id="a host that merely ends alike"),
        pytest.param(f"https://azurecr.io/?d=sha256:{HEX}", id="the domain itself"),
        pytest.param(f"https://me.azurecr.evil/?d=sha256:{HEX}", id="another suffix"),
        pytest.param(f"https://user@me.azurecr.io/?d=sha256:{HEX}", id="user information"),
        pytest.param(f"https://me.azurecr.io:8443/?d=sha256:{HEX}", id="another port"),
        pytest.param(f"http://me.azurecr.io/?d=sha256:{HEX}", id="in the clear"),
        pytest.param(f"https://me.azurecr.io/x?d=sha256:{HEX}", id="another path"),
        pytest.param(f"https://me.azurecr.io/?d=sha256:{HEX}&d=sha256:{HEX[::-1]}", id="two claims"),
        pytest.param(f"https://me.azurecr.io/?d=sha256:{HEX[:-1]}", id="too short"),
        pytest.param(f"https://me.azurecr.io/?d=sha256:{HEX.upper()}", id="capitals"),
        pytest.param(f"https://me.azurecr.io/?D=sha256:{HEX}", id="another parameter"),
        pytest.param(f"https://westus2.data.mcr.microsoft.com.evil.example/a//{PATH}", id="Microsoft's, begins alike"),
        pytest.param(f"https://eus2.blob.core.windows.net/{HEX}/{PATH}x", id="a path that goes on"),
        pytest.param(f"https://eus2.blob.core.windows.net/a/b/{PATH}", id="a path with more before it"),
        pytest.param(f"https://eus2.blob.core.windows.net/a//{PATH.replace('/ab/', '/cd/')}", id="another folder"),
        pytest.param(
            f"https://eus2.blob.core.windows.net/?d=sha256:{HEX}", id="a query that blob storage does not know"
        ),
        pytest.param(f"https://my-account.blob.core.windows.net/a//{PATH}", id="no account has a dash"),
        pytest.param(f"https://blob.core.windows.net/a//{PATH}", id="no account"),
        pytest.param(f"http://example.local/v2/test/app/blobs/sha256:{HEX}", id="a named registry at another port"),
        pytest.param(f"ftp://example.local:5500/v2/test/app/blobs/sha256:{HEX}", id="a named registry, another scheme"),
        pytest.param(f"https://me.azurecr.io/?d=sha256:{HEX}\n", id="a line end"),
        pytest.param(f"https://[me.azurecr.io/?d=sha256:{HEX}", id="no URL"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_digest_that_is_not(url: str) -> None:
    assert digest_in_url(url, registry_hosts=NAMED) is None
