"""Who may fetch a chunk: the first who asks; everybody else is sent to that one."""

from app.swarm.leases import LEASES_MAX, Leases, Leave, Taken


def test_the_first_has_leave_and_the_others_are_sent_to_it() -> None:
    leases = Leases()
    assert leases.ask("c", 0, "a", same_zone=True) == Leave()
    assert leases.ask("c", 0, "b", same_zone=True) == Taken("a")
    assert leases.ask("c", 0, "a", same_zone=True) == Leave()
    assert leases.ask("c", 1 << 20, "b", same_zone=True) == Leave(), "each chunk by itself"
    assert leases.ask("other", 0, "b", same_zone=True) == Leave()


def test_an_asker_that_finds_the_lessee_gone_is_the_next() -> None:
    leases = Leases()
    leases.ask("c", 0, "a", same_zone=True)
    assert leases.ask("c", 0, "b", same_zone=True, without=["a"]) == Leave()
    assert leases.ask("c", 0, "d", same_zone=True) == Taken("b")
    assert leases.lessee("c", 0) == "b"


def test_a_chunk_comes_once_from_upstream_and_once_into_the_homes_own_zone() -> None:
    leases = Leases()
    assert leases.ask("c", 0, "far", same_zone=False) == Leave()
    assert leases.ask("c", 0, "near", same_zone=True) == Leave(ahead="far"), (
        "it fetches from the one that asks upstream"
    )
    assert leases.ask("c", 0, "near-2", same_zone=True) == Taken("near")
    assert leases.ask("c", 0, "far-2", same_zone=False) == Taken("far")


def test_where_a_member_of_the_zone_was_first_those_of_others_are_sent_to_it() -> None:
    leases = Leases()
    assert leases.ask("c", 0, "near", same_zone=True) == Leave()
    assert leases.ask("c", 0, "far", same_zone=False) == Taken("near")


def test_old_leases_make_room() -> None:
    leases = Leases()
    for start in range(LEASES_MAX + 10):
        leases.ask("c", start, "a", same_zone=True)
    assert len(leases) == LEASES_MAX
    assert leases.lessee("c", 0) is None
    assert leases.lessee("c", LEASES_MAX) == "a"
