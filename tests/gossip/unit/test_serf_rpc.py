"""Serf's RPC without sockets: conversations with an agent, in the bytes that Debian's serf 0.8.2 sends."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import msgpack
import pytest

from peerd_gossip import SerfConfig, SerfError, SerfMembership, SerfUnavailable
from peerd_gossip.errors import MembershipError
from peerd_gossip.member import Member, MemberState
from peerd_gossip.membership.serf import member_of, tags_of
from peerd_gossip.membership.serf_agent import SNAPSHOT, check_tags, forget_names
from peerd_gossip.membership.serf_client import SerfClient
from peerd_gossip.membership.serf_rpc import (
    MESSAGE_BYTES_MAX,
    STRING_BYTES_MAX,
    Coordinate,
    Record,
    Response,
    SerfConnection,
    SerfEvent,
    SerfMember,
    coordinate_in,
    event_in,
    joined_in,
    members_in,
    statistics_in,
)

ME = Member("node-1", 1_700_000_000_000, "10.0.0.1:5001", "10.0.0.1:5002", "zone-1", "1.0")


def packed(*messages: object) -> bytes:
    packer = msgpack.Packer(use_bin_type=False)
    return b"".join(packer.pack(message) for message in messages)


def header(seq: int, error: str = "") -> dict[str, object]:
    return {"Error": error, "Seq": seq}


MEMBER = {
    "Addr": b"\x7f\x00\x05\x01", "DelegateCur": 5, "DelegateMax": 5, "DelegateMin": 2, "Name": "node-1.1700000000000",
    "Port": 7946, "ProtocolCur": 2, "ProtocolMax": 5, "ProtocolMin": 1, "Status": "alive", "Tags": tags_of(ME),
}  # fmt: skip
SEEN = SerfMember("node-1.1700000000000", "127.0.5.1", 7946, "alive", tags_of(ME))
COORDINATE = {"Coord": {"Adjustment": 0.0, "Error": 1.5, "Height": 1e-05, "Vec": [0.0, 3.0]}, "Ok": True}
NO_COORDINATE = {"Coord": {"Adjustment": 0.0, "Error": 0.0, "Height": 0.0, "Vec": None}, "Ok": False}
STATISTICS = {"agent": {"name": "n1.100"}, "serf": {"members": "1", "failed": "0"}, "event_handlers": {}}


def test_a_request_is_a_header_and_a_body_in_the_old_raw_format() -> None:
    connection = SerfConnection()
    assert connection.request("handshake", {"Version": 1}) == (
        1,
        packed({"Command": "handshake", "Seq": 1}, {"Version": 1}),
    )
    seq, data = connection.request("auth", {"AuthKey": "k" * 200})
    assert seq == 2
    assert b"\xd9" not in data.replace(b"k", b""), "no str 8, which the agent's codec does not know"


@pytest.mark.parametrize(
    ("command", "body", "read", "want"),
    [
        pytest.param("members-filtered", {"Members": [MEMBER]}, members_in, (SEEN,), id="members"),
        pytest.param("members-filtered", {"Members": None}, members_in, (), id="nobody"),
        pytest.param("join", {"Num": 2}, joined_in, 2, id="join"),
        pytest.param("get-coordinate", COORDINATE, coordinate_in, Coordinate((0.0, 3.0), 1e-05, 0.0), id="coordinate"),
        pytest.param("get-coordinate", NO_COORDINATE, coordinate_in, None, id="a coordinate that is not known"),
        pytest.param("stats", STATISTICS, statistics_in, STATISTICS, id="statistics"),
    ],
)
def test_a_response_with_a_body_comes_when_the_body_has(
    command: str, body: object, read: Callable[[object], object], want: object
) -> None:
    connection = SerfConnection()
    seq, _ = connection.request(command, {})
    assert connection.receive(packed(header(seq))) == []
    [response] = connection.receive(packed(body))
    assert isinstance(response, Response)
    assert (response.seq, response.error, read(response.body)) == (seq, "", want)


def test_bytes_come_in_any_pieces() -> None:
    connection = SerfConnection()
    connection.request("members-filtered", {})
    data = packed(header(1), {"Members": [MEMBER]})
    out = [message for byte in data for message in connection.receive(bytes([byte]))]
    assert [members_in(message.body) for message in out] == [(SEEN,)]


def test_an_error_may_have_a_body_which_nobody_needs() -> None:
    connection = SerfConnection()
    connection.request("join", {})
    connection.request("stats")
    out = connection.receive(packed(header(1, "nobody answers"), {"Num": 0}, header(2, "Authentication required")))
    assert out == [Response(1, "nobody answers", {}), Response(2, "Authentication required", {})]


def test_a_stream_goes_on_between_other_answers() -> None:
    connection = SerfConnection()
    stream, _ = connection.request("stream", {"Type": "*"})
    tags, _ = connection.request("tags", {})
    record = {"Event": "member-join", "Members": [MEMBER]}
    out = connection.receive(packed(header(stream), header(stream), record, header(tags), header(stream), record))
    assert [type(message) for message in out] == [Response, Record, Response, Record]
    assert event_in(out[1].body) == SerfEvent("member-join", (SEEN,))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        pytest.param(packed(header(7)), "nobody made", id="an answer to nothing"),
        pytest.param(packed({"Members": []}), "no header announced", id="a body without a header"),
        pytest.param(packed(header(1), header(1)), "body of 1 was due", id="a header where a body was due"),
        pytest.param(packed([1, 2]), "where a map was due", id="a list"),
        pytest.param(packed({"Seq": "1", "Error": ""}), "not a number", id="a Seq that is a string"),
        pytest.param(packed({"Seq": True, "Error": ""}), "not a number", id="a Seq that is a truth"),
        pytest.param(packed({"Seq": 1, "Error": 5}), "where a string was due", id="an error that is a number"),
        pytest.param(b"\xc1", "MessagePack", id="a byte that MessagePack does not know"),
        pytest.param(b"\xdb\xff\xff\xff\xff" + bytes(MESSAGE_BYTES_MAX), "MessagePack", id="a string of 4 GiB"),
        pytest.param(b"\xdd\xff\xff\xff\xff", "MessagePack", id="a list of four thousand million"),
        pytest.param(packed({"Seq": 1, "Error": "e" * (STRING_BYTES_MAX + 1)}), "MessagePack", id="a string too long"),
        pytest.param(b"\x91" * 100_000, "MessagePack", id="lists in lists in lists"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n", "where a map was due", id="not Serf at all"),
    ],
)
def test_what_is_not_as_it_should_be_is_an_error(data: bytes, complaint: str) -> None:
    connection = SerfConnection()
    connection.request("members-filtered", {})
    with pytest.raises(SerfError, match=complaint):
        connection.receive(data)


@pytest.mark.parametrize(
    "changes",
    [{"Addr": b"\x7f"}, {"Port": "x"}, {"Name": 5}, {"Tags": [1]}, {"Tags": {"a": 1}}, {"Status": None}],
    ids=str,
)
def test_a_member_that_is_none_is_an_error(changes: dict[str, object]) -> None:
    connection = SerfConnection()
    connection.request("members-filtered", {})
    [response] = connection.receive(packed(header(1), {"Members": [{**MEMBER, **changes}]}))
    with pytest.raises(SerfError):
        members_in(response.body)


def test_a_round_trip_is_the_distance_and_both_heights_and_what_was_learnt_besides() -> None:
    """As Serf's own client library computes it (coordinate/coordinate.go, DistanceTo)."""
    here, there = Coordinate((0.0, 0.0), 0.001, 0.0), Coordinate((0.003, 0.004), 0.002, 0.0)
    assert here.round_trip_to(there) == pytest.approx(0.008)
    assert here.round_trip_to(Coordinate((0.003, 0.004), 0.002, -0.003)) == pytest.approx(0.005)
    assert here.round_trip_to(Coordinate((0.003, 0.004), 0.002, -0.1)) == pytest.approx(0.008)


# Hostile bytes, to the protocol and to the client over a socket


def mutated(data: bytes, rng: random.Random) -> bytes:
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


KINDS: dict[str, tuple[object, Callable[..., object]]] = {
    "members-filtered": ({"Members": [MEMBER, MEMBER]}, members_in),
    "stream": ({"Event": "member-join", "Members": [MEMBER]}, event_in),
    "join": ({"Num": 2}, joined_in),
    "get-coordinate": (COORDINATE, coordinate_in),
    "stats": (STATISTICS, statistics_in),
    "tags": (None, dict),
}


@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_mutants_of_each_kind_are_understood_or_refused(kind: str) -> None:
    body, read = KINDS[kind]
    answer = [header(1), header(1), body] if kind == "stream" else [header(1)] if body is None else [header(1), body]
    data = packed(*answer)
    rng = random.Random(kind)
    outcomes: Counter[str] = Counter()
    for _ in range(10_000):
        connection = SerfConnection()
        connection.request(kind, {})
        try:
            for message in connection.receive(mutated(data, rng)):
                if isinstance(message, Record) or (kind not in ("stream", "tags") and not message.error):
                    member_of_all(read(message.body))
            outcomes["understood"] += 1
        except SerfError:
            outcomes["refused"] += 1
    assert outcomes.total() == 10_000
    assert outcomes["refused"] > 1000


def member_of_all(read: object) -> None:
    """What the membership goes on to do with members."""
    members = read.members if isinstance(read, SerfEvent) else read if isinstance(read, tuple) else ()
    for member in members:
        found = member_of(member)
        assert found is None or isinstance(found, Member)


class FakeAgent:
    """Listens as an agent does, and answers what a test has it answer."""

    def __init__(self, answers: Callable[[str, int], bytes]) -> None:
        self._answers = answers
        self.requests: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unpacker = msgpack.Unpacker(raw=False)
        try:
            while data := await reader.read(4096):
                unpacker.feed(data)
                for message in unpacker:
                    if "Command" in message:
                        self.requests.append(message["Command"])
                        writer.write(self._answers(message["Command"], message["Seq"]))
                        await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


async def started(agent: FakeAgent) -> tuple[asyncio.Server, str]:
    server = await asyncio.start_server(agent.serve, "127.0.0.1", 0)
    return server, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_client_survives_an_agent_that_sends_anything() -> None:
    rng = random.Random(9)

    def answers(command: str, seq: int) -> bytes:
        if command == "handshake":
            return packed(header(seq))
        return mutated(packed(header(seq), {"Members": [MEMBER]}), rng)

    server, address = await started(FakeAgent(answers))
    outcomes: Counter[str] = Counter()
    async with server:
        for _ in range(500):
            try:
                async with SerfClient.connected(address, timeout_s=0.02) as client:
                    await client.members()
                outcomes["understood"] += 1
            except (SerfError, SerfUnavailable) as error:
                outcomes[type(error).__name__] += 1
    assert outcomes["SerfError"] > 50
    assert outcomes["SerfUnavailable"] > 50, "an answer that is cut short is waited for in vain"


async def test_a_connection_that_ends_is_told_to_everybody_who_waits() -> None:
    server, address = await started(
        FakeAgent(lambda command, seq: packed(header(seq)) if command == "handshake" else b"")
    )
    async with server, SerfClient.connected(address) as client:

        async def ask() -> type[Exception]:
            with pytest.raises(SerfUnavailable) as failure:
                await client.members()
            return failure.type

        async with asyncio.TaskGroup() as tasks:
            asking = [tasks.create_task(ask()) for _ in range(3)]
            await asyncio.sleep(0)
            client._writer.write_eof()
        assert [task.result() for task in asking] == [SerfUnavailable] * 3
        with pytest.raises(SerfUnavailable):
            await client.statistics()


async def test_a_wrong_key_is_an_error_that_says_so() -> None:
    def answers(command: str, seq: int) -> bytes:
        return packed(header(seq, "Invalid authentication token" if command == "auth" else ""))

    server, address = await started(FakeAgent(answers))
    async with server:
        with pytest.raises(SerfError, match="Invalid authentication token"):
            async with SerfClient.connected(address, auth_key="wrong"):
                pass


# The membership over a fake agent


class Cluster:
    """What a fake agent says of its cluster; a test changes it as it goes."""

    def __init__(self) -> None:
        self.members = [MEMBER]
        self.agent = FakeAgent(self._answer)

    def add(self, member: Member, status: str = "alive") -> None:
        name = f"{member.name}.{member.life}"
        self.members = [seen for seen in self.members if seen["Name"] != name]
        self.members.append({**MEMBER, "Name": name, "Status": status, "Tags": tags_of(member)})

    def _answer(self, command: str, seq: int) -> bytes:
        if command == "members-filtered":
            return packed(header(seq), {"Members": self.members})
        if command == "get-coordinate":
            return packed(header(seq), NO_COORDINATE)
        return packed(header(seq))


OTHER = Member("node-2", 5, "10.0.0.2:5001", "10.0.0.2:5002")


async def test_members_without_our_tags_are_passed_over_and_tags_that_go_are_a_goodbye(
    until: Callable[..., object],
) -> None:
    cluster = Cluster()
    cluster.add(OTHER)
    cluster.members.append({**MEMBER, "Name": "somebody", "Tags": {"role": "web"}})
    reported: dict[Member, MemberState] = {}
    server, address = await started(cluster.agent)
    membership = SerfMembership(SerfConfig(rpc_addr=address))
    async with server, membership.running(ME, None, reported.__setitem__):
        assert reported == {ME: MemberState.ALIVE, OTHER: MemberState.ALIVE}
        cluster.members = [{**seen, "Tags": {}} if seen["Name"] == "node-2.5" else seen for seen in cluster.members]
        membership.heard_from(Member("new", 1, "10.0.0.9:1", "10.0.0.9:2"))
        await until(lambda: reported[OTHER] is MemberState.LEFT)
        cluster.add(OTHER)
        membership.heard_from(OTHER)
        await until(lambda: reported[OTHER] is MemberState.ALIVE)
        cluster.add(OTHER, "failed")
        membership.heard_from(Member("new", 1, "10.0.0.9:1", "10.0.0.9:2"))
        await until(lambda: reported[OTHER] is MemberState.FAILED)


async def test_former_lives_are_forced_out(until: Callable[..., object]) -> None:
    cluster = Cluster()
    cluster.add(Member("node-1", 7, "10.0.0.1:5001", "10.0.0.1:5002"), "failed")
    reported: dict[Member, MemberState] = {}
    server, address = await started(cluster.agent)
    async with server, SerfMembership(SerfConfig(rpc_addr=address)).running(ME, None, reported.__setitem__):
        await until(lambda: "force-leave" in cluster.agent.requests)
        assert set(reported) == {ME}


def test_a_member_is_what_its_tags_say() -> None:
    assert member_of(SEEN) == ME


@pytest.mark.parametrize(
    "changes", [{"pn": ""}, {"pl": "x"}, {"pl": "-1"}, {"pg": "nowhere"}, {"pz": "z" * 100}], ids=str
)
def test_tags_that_tell_of_no_member_are_passed_over(changes: dict[str, str]) -> None:
    assert member_of(SerfMember("x", "127.0.0.1", 1, "alive", {**tags_of(ME), **changes})) is None


def test_more_tags_than_serf_takes_are_an_error_of_the_start() -> None:
    check_tags(tags_of(ME))
    with pytest.raises(MembershipError, match="512"):
        check_tags(tags_of(Member("n" * 128, 1, "h" * 250 + ":1", "h" * 250 + ":2")))


def test_our_own_former_lives_are_taken_out_of_a_snapshot(tmp_path: object) -> None:
    snapshot = tmp_path / SNAPSHOT
    other = "alive: node-10.5 10.0.0.10:7946\nclock: 7\n"
    snapshot.write_text(f"alive: node-1.5 10.0.0.1:7946\n{other}not-alive: node-1.4\n")
    forget_names(snapshot, "node-1.")
    assert snapshot.read_text() == other
    forget_names(tmp_path / "no such file", "node-1.")
