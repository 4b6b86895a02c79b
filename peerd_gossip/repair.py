"""What a member that is behind is given: deltas where they are still kept, else the whole filter. Pure."""

from __future__ import annotations

from peerd_gossip.limits import Limits
from peerd_gossip.messages import Answer, Delta, FilterImage, Stamp, keys_of
from peerd_gossip.store import Store
from peerd_gossip.versions import VersionVector


def differences(
    theirs: tuple[Stamp, ...], versions: VersionVector, buckets: int
) -> tuple[tuple[Stamp, ...], tuple[Stamp, ...]]:
    """Of the members in these buckets: where the other side is behind, as it stands there, and what it lacks altogether."""
    have = {stamp.member: stamp for stamp in theirs}
    mine = list(versions.within(buckets))
    behind = tuple(have[one.member] for one in mine if one.member in have and have[one.member] < one)
    return behind, tuple(one for one in mine if one.member not in have)


def answers_to(have: tuple[Stamp, ...], versions: VersionVector, store: Store, limits: Limits) -> list[Answer]:
    """All that is newer here than what one who asks has, in messages of a bounded size and number."""
    answers: list[Answer] = []
    deltas: list[Delta] = []
    filters: list[FilterImage] = []
    size = 0
    for stamp in have:
        mine = versions.get(stamp.member)
        if mine is None or mine <= stamp:
            continue
        steps = store.since(stamp, mine)
        if steps is not None and 8 * keys_of(steps) <= limits.answer_bytes:
            deltas += steps
            size += 8 * keys_of(steps) + 32 * len(steps)
        else:
            image = store.image(mine)
            if image is None:
                continue
            filters.append(image)
            size += len(image.bits) + 8 * len(image.tombstones)
        if size >= limits.answer_bytes:
            answers.append(Answer(tuple(deltas), tuple(filters)))
            deltas, filters, size = [], [], 0
            if len(answers) == limits.answers:
                break
    if size:
        answers.append(Answer(tuple(deltas), tuple(filters)))
    return answers
