"""How often a reason is told, and which certificates are members'."""

import pytest
from starlette.responses import PlainTextResponse

from app.server.sendfile import SHOWN
from app.server.strangers import REASONS_MAX, TOLD_SECONDS, Strangers, names_shown
from app.swarm.members_only import MembersOnly


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_reason_is_told_once_a_minute_with_how_often_it_came(caplog):
    clock = Clock()
    strangers = Strangers(clock=clock)
    for _ in range(5):
        strangers.turned_away("expired")
    strangers.turned_away("unknown")
    clock.now += TOLD_SECONDS
    strangers.turned_away("expired")
    told = [record.getMessage().partition("door: ")[2] for record in caplog.records]
    assert told == ["expired", "unknown", "expired; 4 more before"]


def test_reasons_are_bounded(caplog):
    strangers = Strangers(clock=Clock())
    for number in range(REASONS_MAX * 3):
        strangers.turned_away(f"reason {number}")
    assert len(caplog.records) == REASONS_MAX + 1


def test_names_are_those_of_dns():
    certificate = {"subjectAltName": (("DNS", "a.peerd"), ("IP Address", "127.0.0.1"), ("DNS", "b"))}
    assert names_shown(certificate) == {"a.peerd", "b"}
    assert names_shown(None) == names_shown({}) == frozenset()


async def answered(shown, *, speaker=None, members=("a",)):
    """The status that a request gets whose other end has shown these names."""
    statuses = []
    headers = [] if speaker is None else [(b"x-ms-peerd-node", speaker.encode())]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    if shown is not None:
        scope[SHOWN] = frozenset(shown)

    async def send(message):
        statuses.append(message.get("status"))

    await MembersOnly(PlainTextResponse("content"), lambda name: name in members)(scope, None, send)
    return statuses[0]


@pytest.mark.parametrize(
    ("shown", "speaker", "status"),
    [
        pytest.param(None, "whoever", 200, id="without TLS, which is on loopback only"),
        pytest.param(["a.peerd"], "a", 200, id="a member"),
        pytest.param(["a.peerd"], None, 200, id="a member that does not say its name"),
        pytest.param(["a.peerd"], "b", 403, id="a member in another's name"),
        pytest.param(["b.peerd"], "b", 403, id="nobody's name"),
        pytest.param(["a"], None, 403, id="another program's certificate"),
        pytest.param(["a.peerd.example"], None, 403, id="a name that begins alike"),
        pytest.param([], None, 403, id="no name"),
    ],
)
async def test_who_is_a_member(shown, speaker, status):
    assert await answered(shown, speaker=speaker) == status


async def test_one_of_whom_gossip_hears_a_moment_later_is_waited_for():
    class Heard:
        asked = 0

        def __contains__(self, _name):
            self.asked += 1
            return self.asked > 3

    assert await answered(["new.peerd"], members=Heard()) == 200
