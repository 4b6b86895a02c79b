"""What goes over the wire: there and back, and everything that is refused."""

from __future__ import annotations

import random
import zlib
from collections import Counter

import pytest

from peerd_gossip._pb import gossip_pb2 as pb
from peerd_gossip.bloom import key_hash
from peerd_gossip.errors import MessageRefused
from peerd_gossip.member import Member, MemberId, MemberState
from peerd_gossip.messages import (
    BUCKETS,
    DELTA_KEYS_MAX,
    EPOCH_MAX,
    FRAME_BYTES_MAX,
    KEYS_MAX,
    ROSTER_MAX,
    STAMPS_MAX,
    TOMBSTONES_MAX,
    Answer,
    Delta,
    Digest,
    Frame,
    Greeting,
    Hello,
    Rumours,
    Stamp,
    Versions,
    Want,
    decode_frame,
    decode_greeting,
    decode_roster,
    encode_frame,
    encode_greeting,
    encode_roster,
)
from peerd_gossip.store import image_of

ME = Member("me", 1_700_000_000_000, "127.0.0.1:5001", "127.0.0.1:5002", "zone-1", "1.0")
STAMPS = tuple(Stamp(MemberId(random.Random(i).getrandbits(64)), i + 1, i * i) for i in range(20))
SPARSE = image_of(STAMPS[0], map(key_hash, map(str, range(10))), 15)
FULL = image_of(STAMPS[1], map(key_hash, map(str, range(100))), 10)

FRAMES: dict[str, Frame] = {
    "hello": Hello(ME),
    "rumours": Rumours((Delta(STAMPS[0], (1, 2**64 - 1), (3,)), Delta(STAMPS[1], farewell=True)), STAMPS[2:]),
    "digest": Digest(tuple(range(BUCKETS))),
    "versions": Versions(2**64 - 1, STAMPS),
    "want": Want((Stamp(MemberId(5), 0, 0), *STAMPS)),
    "answer": Answer((Delta(STAMPS[3], tuple(range(100))),), (SPARSE, FULL)),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_a_frame_comes_out_as_it_went_in(frame: Frame) -> None:
    assert decode_frame(encode_frame(frame)) == frame


def test_a_greeting_and_a_roster_come_out_as_they_went_in() -> None:
    assert decode_greeting(encode_greeting(Greeting(ME, leaving=True))) == Greeting(ME, leaving=True)
    roster = tuple((ME, state) for state in MemberState)
    assert decode_roster(encode_roster(roster)) == roster


def test_sparse_filters_are_deflated_and_full_ones_are_not() -> None:
    assert len(encode_frame(Answer(filters=(SPARSE,)))) < 300
    assert FULL.bits in encode_frame(Answer(filters=(FULL,)))


def stamps(*epochs: int, versions: int = 1) -> pb.Stamps:
    return pb.Stamps(members=range(len(epochs)), epochs=epochs, versions=[versions] * len(epochs))


def answer(**filter_: object) -> pb.Frame:
    image = {"member": 1, "epoch": 1, "version": 0, "size_log2": 10, "keys": 1, "bits": bytes(128), **filter_}
    return pb.Frame(answer=pb.Answer(filters=[pb.FilterImage(**image)]))


def member(**changes: object) -> pb.Member:
    fields = {"name": "a", "life": 1, "peer_addr": "127.0.0.1:1", "gossip_addr": "127.0.0.1:2", **changes}
    return pb.Member(**fields)


REFUSED = [
    pytest.param(pb.Frame(), "malformed", id="a frame of no kind"),
    pytest.param(pb.Frame(hello=pb.Hello(protocol=2, member=member())), "protocol", id="another protocol"),
    pytest.param(pb.Frame(hello=pb.Hello(protocol=1)), "malformed", id="a Hello of nobody"),
    pytest.param(
        pb.Frame(hello=pb.Hello(protocol=1, member=member(gossip_addr="nowhere"))), "malformed", id="no address"
    ),
    pytest.param(pb.Frame(digest=pb.Digest(buckets=[1] * 63)), "malformed", id="a digest of too few buckets"),
    pytest.param(pb.Frame(digest=pb.Digest(buckets=[1] * 100_000)), "malformed", id="a digest of too many buckets"),
    pytest.param(
        pb.Frame(want=pb.Want(have=pb.Stamps(members=[1, 2], epochs=[1], versions=[1, 1]))), "malformed", id="columns"
    ),
    pytest.param(pb.Frame(versions=pb.Versions(stamps=stamps(0))), "malformed", id="epoch 0 of a filter there is"),
    pytest.param(pb.Frame(rumours=pb.Rumours(haves=stamps(EPOCH_MAX + 1))), "malformed", id="an epoch too great"),
    pytest.param(
        pb.Frame(rumours=pb.Rumours(haves=stamps(1, versions=1 << 31))), "malformed", id="a version too great"
    ),
    pytest.param(pb.Frame(want=pb.Want(have=stamps(*[1] * (STAMPS_MAX + 1)))), "oversize", id="too many stamps"),
    pytest.param(
        pb.Frame(rumours=pb.Rumours(deltas=[pb.Delta(epoch=1, version=1, added=range(DELTA_KEYS_MAX + 1))])),
        "oversize",
        id="a delta of too many keys",
    ),
    pytest.param(answer(size_log2=9, bits=bytes(64)), "malformed", id="a filter too small"),
    pytest.param(answer(size_log2=21, bits=bytes(1 << 18)), "malformed", id="a filter too large"),
    pytest.param(answer(size_log2=4_000_000_000), "malformed", id="a filter of a size that no shift should see"),
    pytest.param(answer(bits=bytes(127)), "malformed", id="bits that are not as many as the size says"),
    pytest.param(answer(bits=b"", deflated=b"zlib?"), "malformed", id="bits that do not inflate"),
    pytest.param(answer(bits=b"", deflated=zlib.compress(bytes(10_000_000))), "malformed", id="a bomb"),
    pytest.param(answer(bits=b"", deflated=zlib.compress(bytes(128))[:-1]), "malformed", id="deflated bits cut short"),
    pytest.param(answer(bits=b"", deflated=zlib.compress(bytes(128)) + b"x"), "malformed", id="deflated bits and more"),
    pytest.param(answer(tombstones=range(TOMBSTONES_MAX + 1)), "oversize", id="too many tombstones"),
    pytest.param(answer(keys=KEYS_MAX + 1), "oversize", id="a count of keys that no filter takes"),
    pytest.param(
        pb.Frame(
            answer=pb.Answer(
                filters=[
                    pb.FilterImage(member=i, epoch=1, size_log2=20, deflated=zlib.compress(bytes(1 << 17)))
                    for i in range(100)
                ]
            )
        ),
        "oversize",
        id="a hundred small messages that inflate to 13 MB",
    ),
]


@pytest.mark.parametrize(("frame", "reason"), REFUSED)
def test_what_is_not_as_it_should_be_is_refused_with_a_reason(frame: pb.Frame, reason: str) -> None:
    with pytest.raises(MessageRefused) as refusal:
        decode_frame(frame.SerializeToString())
    assert refusal.value.reason == reason


def test_a_frame_that_is_too_long_is_not_even_parsed() -> None:
    with pytest.raises(MessageRefused, match="oversize"):
        decode_frame(bytes(FRAME_BYTES_MAX + 1))


def test_a_roster_that_is_too_long_is_refused() -> None:
    entries = [pb.RosterEntry(member=member(), state=pb.STATE_ALIVE)] * (ROSTER_MAX + 1)
    with pytest.raises(MessageRefused, match="oversize"):
        decode_roster(pb.Roster(entries=entries).SerializeToString())


def test_a_state_that_nobody_knows_is_refused() -> None:
    with pytest.raises(MessageRefused, match="malformed"):
        decode_roster(pb.Roster(entries=[pb.RosterEntry(member=member())]).SerializeToString())


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to four of: a bit turned, a byte changed, bytes cut out, doubled or put in, an end cut off."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(out) + 1)
        match rng.randrange(5):
            case 0 if out:
                out[place % len(out)] ^= 1 << rng.randrange(8)
            case 1:
                del out[place : place + rng.randint(1, 8)]
            case 2:
                out[place:place] = out[place : place + rng.randint(1, 64)]
            case 3:
                out[place:place] = rng.randbytes(rng.randint(1, 8))
            case _:
                del out[place:]
    return bytes(out)


@pytest.mark.parametrize("kind", [*FRAMES, "greeting", "roster"])
def test_ten_thousand_mutants_of_each_kind_are_parsed_or_refused(kind: str) -> None:
    rng = random.Random(kind)
    decode, data = {
        "greeting": (decode_greeting, encode_greeting(Greeting(ME))),
        "roster": (decode_roster, encode_roster(((ME, MemberState.ALIVE), (ME, MemberState.LEFT)))),
    }.get(kind, (decode_frame, encode_frame(FRAMES[kind]) if kind in FRAMES else b""))
    outcomes: Counter[str] = Counter()
    for _ in range(10_000):
        try:
            decode(mutated(data, rng))
            outcomes["parsed"] += 1
        except MessageRefused as refusal:
            outcomes[refusal.reason] += 1
    assert outcomes.total() == 10_000
    assert outcomes["malformed"] > 1000
    assert set(outcomes) <= {"parsed", "malformed", "oversize", "protocol"}
