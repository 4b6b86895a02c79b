from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_UNSPECIFIED: _ClassVar[State]
    STATE_ALIVE: _ClassVar[State]
    STATE_FAILED: _ClassVar[State]
    STATE_LEFT: _ClassVar[State]
STATE_UNSPECIFIED: State
STATE_ALIVE: State
STATE_FAILED: State
STATE_LEFT: State

class Member(_message.Message):
    __slots__ = ("name", "life", "peer_addr", "gossip_addr", "zone", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LIFE_FIELD_NUMBER: _ClassVar[int]
    PEER_ADDR_FIELD_NUMBER: _ClassVar[int]
    GOSSIP_ADDR_FIELD_NUMBER: _ClassVar[int]
    ZONE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    life: int
    peer_addr: str
    gossip_addr: str
    zone: str
    version: str
    def __init__(self, name: _Optional[str] = ..., life: _Optional[int] = ..., peer_addr: _Optional[str] = ..., gossip_addr: _Optional[str] = ..., zone: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "member")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    member: Member
    def __init__(self, protocol: _Optional[int] = ..., member: _Optional[_Union[Member, _Mapping]] = ...) -> None: ...

class Greeting(_message.Message):
    __slots__ = ("protocol", "member", "leaving")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    member: Member
    leaving: bool
    def __init__(self, protocol: _Optional[int] = ..., member: _Optional[_Union[Member, _Mapping]] = ..., leaving: _Optional[bool] = ...) -> None: ...

class RosterEntry(_message.Message):
    __slots__ = ("member", "state")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    member: Member
    state: State
    def __init__(self, member: _Optional[_Union[Member, _Mapping]] = ..., state: _Optional[_Union[State, str]] = ...) -> None: ...

class Roster(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[RosterEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[RosterEntry, _Mapping]]] = ...) -> None: ...

class Stamps(_message.Message):
    __slots__ = ("members", "epochs", "versions")
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedScalarFieldContainer[int]
    epochs: _containers.RepeatedScalarFieldContainer[int]
    versions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, members: _Optional[_Iterable[int]] = ..., epochs: _Optional[_Iterable[int]] = ..., versions: _Optional[_Iterable[int]] = ...) -> None: ...

class Delta(_message.Message):
    __slots__ = ("member", "epoch", "version", "added", "withdrawn", "farewell")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDED_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    FAREWELL_FIELD_NUMBER: _ClassVar[int]
    member: int
    epoch: int
    version: int
    added: _containers.RepeatedScalarFieldContainer[int]
    withdrawn: _containers.RepeatedScalarFieldContainer[int]
    farewell: bool
    def __init__(self, member: _Optional[int] = ..., epoch: _Optional[int] = ..., version: _Optional[int] = ..., added: _Optional[_Iterable[int]] = ..., withdrawn: _Optional[_Iterable[int]] = ..., farewell: _Optional[bool] = ...) -> None: ...

class FilterImage(_message.Message):
    __slots__ = ("member", "epoch", "version", "size_log2", "keys", "bits", "deflated", "tombstones")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SIZE_LOG2_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    BITS_FIELD_NUMBER: _ClassVar[int]
    DEFLATED_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONES_FIELD_NUMBER: _ClassVar[int]
    member: int
    epoch: int
    version: int
    size_log2: int
    keys: int
    bits: bytes
    deflated: bytes
    tombstones: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, member: _Optional[int] = ..., epoch: _Optional[int] = ..., version: _Optional[int] = ..., size_log2: _Optional[int] = ..., keys: _Optional[int] = ..., bits: _Optional[bytes] = ..., deflated: _Optional[bytes] = ..., tombstones: _Optional[_Iterable[int]] = ...) -> None: ...

class Rumours(_message.Message):
    __slots__ = ("deltas", "haves")
    DELTAS_FIELD_NUMBER: _ClassVar[int]
    HAVES_FIELD_NUMBER: _ClassVar[int]
    deltas: _containers.RepeatedCompositeFieldContainer[Delta]
    haves: Stamps
    def __init__(self, deltas: _Optional[_Iterable[_Union[Delta, _Mapping]]] = ..., haves: _Optional[_Union[Stamps, _Mapping]] = ...) -> None: ...

class Digest(_message.Message):
    __slots__ = ("buckets",)
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    buckets: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, buckets: _Optional[_Iterable[int]] = ...) -> None: ...

class Versions(_message.Message):
    __slots__ = ("buckets", "stamps")
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    STAMPS_FIELD_NUMBER: _ClassVar[int]
    buckets: int
    stamps: Stamps
    def __init__(self, buckets: _Optional[int] = ..., stamps: _Optional[_Union[Stamps, _Mapping]] = ...) -> None: ...

class Want(_message.Message):
    __slots__ = ("have",)
    HAVE_FIELD_NUMBER: _ClassVar[int]
    have: Stamps
    def __init__(self, have: _Optional[_Union[Stamps, _Mapping]] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("deltas", "filters")
    DELTAS_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    deltas: _containers.RepeatedCompositeFieldContainer[Delta]
    filters: _containers.RepeatedCompositeFieldContainer[FilterImage]
    def __init__(self, deltas: _Optional[_Iterable[_Union[Delta, _Mapping]]] = ..., filters: _Optional[_Iterable[_Union[FilterImage, _Mapping]]] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("hello", "rumours", "digest", "versions", "want", "answer")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    RUMOURS_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    WANT_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    rumours: Rumours
    digest: Digest
    versions: Versions
    want: Want
    answer: Answer
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., rumours: _Optional[_Union[Rumours, _Mapping]] = ..., digest: _Optional[_Union[Digest, _Mapping]] = ..., versions: _Optional[_Union[Versions, _Mapping]] = ..., want: _Optional[_Union[Want, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ...) -> None: ...
