import pytest

from app.errors import ContentUnknown, UpstreamForbidden, UpstreamRefused, UpstreamUnavailable
from app.upstream.config import UpstreamConfig
from app.upstream.source import UpstreamSource
from tests.upstream.conversation import Asked, Wire, part, response, upstream
from tests.upstream.reading import content, etag, fetch, file
from tests.upstream.registry import BLOB, Registry, blob

DATA = bytes(range(256))
OWN = "Bearer OWN"


async def honest(asked: Asked, wire: Wire) -> None:
    await wire.send(part(DATA, asked, ETag='"e"'))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed(source: UpstreamSource, status: int) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(status, Location=f"{store.url}//signed%2b?sig=%2f"))

    async with upstream(honest) as store, upstream(script) as front:
        location = file(f"{front.url}/x")
        assert (await source.stat(location)).size == 256
        assert await fetch(source, content(location, 256, etag('"e"')), 5, 9) == DATA[5:9]
        assert [asked.target for asked in store.asked] == ["//signed%2b?sig=%2f"] * 2


@pytest.mark.parametrize("status", [300, 304, 305])
async def test_what_is_no_redirect(source: UpstreamSource, status: int) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(status, Location="/elsewhere"))

    async with upstream(script) as front:
        with pytest.raises(UpstreamUnavailable):
            await source.stat(file(f"{front.url}/x"))
        assert len(front.asked) == 1


async def test_a_credential_stays_at_its_origin(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        if asked.target == "/x":
            await wire.send(response(307, Location="/y"))
        else:
            await wire.send(response(307, Location=f"{store.url}/z"))

    async with upstream(honest) as store, upstream(script) as front:
        location = file(f"{front.url}/x", authorization=OWN)
        await source.stat(location)
        await fetch(source, content(location, 256, etag('"e"')), 5, 9)
        assert [asked.authorization for asked in front.asked] == [OWN, OWN]
        assert [asked.authorization for asked in store.asked] == [None, None], "another port is another origin"


async def test_the_final_location_is_remembered(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(307, Location=f"{store.url}/signed"))

    async with upstream(honest) as store, upstream(script) as front:
        location = file(f"{front.url}/x")
        for start in range(5):
            assert await fetch(source, content(location, 256, etag('"e"')), start, start + 9) == DATA[start : start + 9]
        assert len(front.asked) == 1


async def test_a_location_is_remembered_for_whose_credential_found_it(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(307, Location=f"{store.url}/signed") if asked.authorization else response(403))

    async with upstream(honest) as store, upstream(script) as front:
        await source.stat(file(f"{front.url}/x", authorization=OWN))
        with pytest.raises(UpstreamRefused):
            await source.stat(file(f"{front.url}/x"))


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_an_expired_location_is_asked_for_again(source: UpstreamSource, status: int) -> None:
    signature = 1

    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(307, Location=f"{store.url}/x?sig={signature}"))

    async def signed(asked: Asked, wire: Wire) -> None:
        if asked.target == f"/x?sig={signature}":
            await honest(asked, wire)
        else:
            await wire.send(response(status, b"expired"))

    async with upstream(signed) as store, upstream(script) as front:
        what = content(file(f"{front.url}/x"), 256, etag('"e"'))
        await fetch(source, what, 5, 9)
        signature = 2
        assert await fetch(source, what, 5, 9) == DATA[5:9]
        assert (await source.stat(what.location)).size == 256
        assert len(front.asked) == 2


async def test_what_is_really_gone_is_said_so(source: UpstreamSource) -> None:
    here = True

    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(307, Location=f"{store.url}/signed") if here else response(404))

    async def gone(asked: Asked, wire: Wire) -> None:
        await (honest(asked, wire) if here else wire.send(response(403)))

    async with upstream(gone) as store, upstream(script) as front:
        what = content(file(f"{front.url}/x"), 256, etag('"e"'))
        await fetch(source, what, 5, 9)
        here = False
        with pytest.raises(ContentUnknown):
            await fetch(source, what, 5, 9)


async def test_five_redirects_are_followed_and_no_more(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        left = int(asked.target[1:])
        await (wire.send(response(302, Location=f"/{left - 1}")) if left else honest(asked, wire))

    async with upstream(script) as front:
        assert (await source.stat(file(f"{front.url}/5"))).size == 256
        with pytest.raises(UpstreamUnavailable, match="more than 5 times"):
            await source.stat(file(f"{front.url}/6"))


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://0x7f.1/",
        "http://127.0.0.2:{port}/",
        "//[::1]:{port}/",
        "ftp://127.0.0.1/",
        "http://me@127.0.0.1:{port}/",
    ],
)
async def test_each_hop_is_guarded(opened, location: str) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(302, Location=location.format(port=front.port)))

    async with upstream(script) as front:
        refused: list[str] = []
        source = await opened(UpstreamConfig(allow=("127.0.0.1:*",)), on_refused=refused.append)
        with pytest.raises(UpstreamForbidden):
            await source.stat(file(f"{front.url}/x"))
        with pytest.raises(UpstreamForbidden):
            await fetch(source, content(file(f"{front.url}/x"), 256), 5, 9)
        assert len(refused) == 2
        assert len(front.asked) == 2


async def test_a_redirect_without_a_place_is_no_answer(source: UpstreamSource) -> None:
    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(302))

    async with upstream(script) as front:
        with pytest.raises(UpstreamUnavailable):
            await source.stat(file(f"{front.url}/x"))


@pytest.mark.parametrize(
    "location",
    ["http:///x", "http://[::1/", "http://a:b/", "http://a:99999/", "//", "http:x", "ht\xe9tp://x", "\\\\x\\y"],
)
async def test_a_redirect_to_what_is_no_url_is_no_answer(source: UpstreamSource, location: str) -> None:
    """An upstream that sends nonsense is to be told of as one, whichever library reads its headers."""

    async def script(asked: Asked, wire: Wire) -> None:
        await wire.send(response(302, Location=location) if asked.target == "/x" else response(404))

    async with upstream(script) as front:
        with pytest.raises((UpstreamUnavailable, UpstreamForbidden, ContentUnknown)):
            await source.stat(file(f"{front.url}/x"))


async def test_a_registrys_token_is_left_behind_when_it_redirects_to_its_storage(opened) -> None:
    async def storage(asked: Asked, wire: Wire) -> None:
        await wire.send(part(BLOB, asked, ETag=f'"{len(store.asked)}"'))

    registry = Registry(accepts={OWN})
    async with upstream(storage) as store, upstream(registry) as front:
        registry.redirect = f"{store.url}/signed"
        source = await opened(UpstreamConfig(registries={"example.local": front.url}, allow=("127.0.0.1:*",)))
        location = blob("example.local", authorization=OWN)
        stat = await source.stat(location)
        assert stat.size == len(BLOB)
        what = content(location, stat.size, stat.validator)
        assert await fetch(source, what, 5, 9) == BLOB[5:9], "another ETag is only another replica of a digest"
        assert "if-range" not in store.asked[1].headers
        assert [asked.authorization for asked in store.asked] == [None, None]
        assert [asked.authorization for asked in front.asked] == [OWN]
