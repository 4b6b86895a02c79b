"""An open file that closes itself when nobody refers to it any more, and the slices of it that are sent.

Slices outlive what they were cut from: a content may be evicted, replaced or renamed while a slow client still reads. As
long as a slice exists its file is open, and an unlinked file keeps its bytes.
"""

import ctypes
import errno
import mmap
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from app.content.source import SourceKind

_FALLOC_FL_KEEP_SIZE = 0x01
_FALLOC_FL_PUNCH_HOLE = 0x02
_libc = ctypes.CDLL(None, use_errno=True)


class _Closing:
    """Closes a file when it goes."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __del__(self) -> None:
        os.close(self._fd)


class Descriptor:
    """A file descriptor of our own. Closed with the last reference to this object.

    It has no `__del__` itself: that would run before weak references are cleared, and as close(2) lets other threads run, one of
    them could get this object back by such a reference, with a number that is closed, or somebody else's by now.
    """

    __slots__ = ("__weakref__", "_closing", "_fd")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._closing = _Closing(fd)

    def fileno(self) -> int:
        """The number, valid as long as this object lives."""
        return self._fd

    def punch(self, offset: int, length: int) -> bool:
        """Give the disk back what lies there; reads of it give zeros from now on.

        Only whole pages of it: the kernel zeroes a page that is partly in the hole in place, and what sendfile has put into a
        socket's queue is that very page. A client that is slow to read would be sent the zeros.

        Returns False where the file system can not do that (fallocate(2), EOPNOTSUPP).
        """
        start, stop = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE, (offset + length) // mmap.PAGESIZE * mmap.PAGESIZE
        if start >= stop:
            return True
        result = _libc.fallocate(
            self._fd, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, ctypes.c_int64(start), ctypes.c_int64(stop - start)
        )
        if result == 0:
            return True
        code = ctypes.get_errno()
        if code in (errno.EOPNOTSUPP, errno.ENOSYS):
            return False
        raise OSError(code, os.strerror(code))


def nameless(folder: Path) -> Descriptor:
    """A new file on the disk of `folder` that goes with its last reader. Raises OSError."""
    try:
        return Descriptor(os.open(folder, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600))
    except OSError as error:
        # open(2), O_TMPFILE: not every file system can do it (overlayfs before Linux 6.6).
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    fd, path = tempfile.mkstemp(dir=folder)
    Path(path).unlink()
    return Descriptor(fd)


@dataclass(frozen=True, slots=True)
class Slice:
    """`count` bytes at `offset` of an open file, ready to be sent."""

    file: Descriptor
    offset: int
    count: int
    kind: SourceKind

    def read(self) -> bytes:
        """The bytes themselves, for small ones. Blocks. Raises OSError where the file is shorter."""
        data = os.pread(self.file.fileno(), self.count, self.offset)
        if len(data) != self.count:
            raise OSError(errno.EIO, "the file is shorter than what was to be read of it")
        return data
