"""How long upstream's word counts, and in what form a credential is kept."""

import pytest

from app.consent.memory import (
    CONSENTS_MAX,
    PUBLIC_WHILE_AWAY_SECONDS,
    REFUSED_SECONDS,
    ConsentMemory,
    Given,
    Withheld,
    Word,
)
from app.consent.seal import Seal
from app.content.digest import Digest
from app.content.location import BlobInRegistry, FileAtUrl, ManifestInRegistry

DIGEST = Digest.of(b"content")
YES, NO = Given(7), Withheld(401, "Basic")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("ttl", "word", "counts_seconds"),
    [
        pytest.param(300.0, YES, 300.0, id="a yes counts for the time to live"),
        pytest.param(300.0, NO, REFUSED_SECONDS, id="a no for less"),
        pytest.param(2.0, NO, 2.0, id="and never for longer than a yes"),
        pytest.param(0.0, YES, 0.0, id="without a time to live nothing counts"),
    ],
)
def test_how_long_a_word_counts(ttl: float, word: Word, counts_seconds: float) -> None:
    clock = Clock()
    memory = ConsentMemory(ttl, clock=clock)
    memory.put(b"seal", word, said_at=clock.now)
    assert memory.get(b"another") is None
    if counts_seconds:
        clock.now += counts_seconds - 0.001
        assert memory.get(b"seal") == word
        clock.now += 0.001
    assert memory.get(b"seal") is None


def test_a_word_counts_from_before_the_question() -> None:
    """Upstream took eight seconds to answer; the credential may have been revoked in the first."""
    clock = Clock()
    memory = ConsentMemory(10, clock=clock)
    memory.put(b"seal", YES, said_at=clock.now - 8)
    clock.now += 2
    assert memory.get(b"seal") is None


def test_what_was_public_within_the_hour_is_known_while_upstream_is_away_and_a_no_ends_that() -> None:
    clock = Clock()
    memory = ConsentMemory(1, clock=clock)
    memory.put(b"seal", YES, said_at=clock.now)
    clock.now += PUBLIC_WHILE_AWAY_SECONDS - 1
    assert memory.get(b"seal") is None
    assert memory.while_away(b"seal") == YES
    clock.now += 1
    assert memory.while_away(b"seal") is None
    memory.put(b"seal", YES, said_at=clock.now)
    memory.put(b"seal", NO, said_at=clock.now)
    assert memory.while_away(b"seal") is None
    memory.put(b"seal", YES, said_at=clock.now)
    memory.forget(b"seal")
    assert memory.while_away(b"seal") is None


def test_memory_is_bounded_and_the_oldest_word_goes_first() -> None:
    memory = ConsentMemory(300, clock=Clock())
    for number in range(CONSENTS_MAX + 10):
        memory.put(b"%d" % number, YES, said_at=1000.0)
    assert len(memory) == CONSENTS_MAX
    assert memory.get(b"9") is None
    assert memory.get(b"10") == YES


SEAL = Seal()
BLOB = BlobInRegistry("reg.test", "team/app", DIGEST, "Basic a")
OTHERS = [
    BlobInRegistry("reg.test", "team/app", DIGEST),
    BlobInRegistry("reg.test", "team/app", DIGEST, ""),
    BlobInRegistry("reg.test", "team/app", DIGEST, "Basic A"),
    BlobInRegistry("reg.test", "team/other", DIGEST, "Basic a"),
    BlobInRegistry("other.test", "team/app", DIGEST, "Basic a"),
    BlobInRegistry("reg.test", "team/app", Digest.of(b"other"), "Basic a"),
    ManifestInRegistry("reg.test", "team/app", DIGEST, "Basic a"),
    FileAtUrl("http://reg.test/a", None, "Basic a"),
    FileAtUrl("http://reg.test/a", None),
    FileAtUrl("https://reg.test/a", None),
    FileAtUrl("http://reg.test/a?sv=1&sig=1", None),
    FileAtUrl("http://reg.test/a?sv=1&sig=2", None),
]


def test_each_place_and_credential_has_a_seal_of_its_own() -> None:
    seals = {SEAL.of(location) for location in (BLOB, *OTHERS)}
    assert len(seals) == 1 + len(OTHERS)


def test_the_same_has_the_same_and_in_another_life_another() -> None:
    assert SEAL.of(BLOB) == SEAL.of(BlobInRegistry("reg.test", "team/app", DIGEST, "Basic a"))
    hub = BlobInRegistry("docker.io", "library/alpine", DIGEST)
    assert SEAL.of(hub) == SEAL.of(BlobInRegistry("index.docker.io", "alpine", DIGEST))
    assert SEAL.of(BLOB) != Seal().of(BLOB)
    assert "Basic" not in repr(SEAL)
    assert repr(SEAL) == "Seal()"
