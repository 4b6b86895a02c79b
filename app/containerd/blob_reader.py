"""How the bytes of a blob that containerd holds are got at: from its file where that can be read, else by its API."""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from contextlib import aclosing
from pathlib import Path

from app.containerd.api import BlobAbsent, ContainerdApi, ContainerdUnavailable
from app.content.byte_range import ByteRange
from app.content.descriptor import Descriptor
from app.content.digest import Digest

_log = logging.getLogger(__name__)

# Large enough to keep a disk busy, small enough that an abandoned read ends soon.
_PIECE_SIZE_BYTES = 1 << 20


class BlobReader:
    """Reads blobs; knows nothing of which may be shared.

    Args:
        content_dir: containerd's content folder as this process sees it, or None. Drawn by containerd
            (`plugins/content/local/store.go`): `<content_dir>/blobs/<algorithm>/<hex>`, whole files only.
        executor: threads for reading files.
    """

    def __init__(self, content_dir: Path | None, executor: Executor) -> None:
        self._content_dir = content_dir
        self._executor = executor

    @property
    def reads_files(self) -> bool:
        """Whether bytes can be had without containerd's process."""
        return self._content_dir is not None

    def open_file(self, digest: Digest, size: int) -> Descriptor | None:
        """The file that containerd has of a blob of `size` bytes; None when it can not be opened or has another size. Blocks."""
        if self._content_dir is None:
            return None
        path = self._content_dir / "blobs" / digest.algorithm / digest.hex
        try:
            file = Descriptor(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            _log.debug("%s can not be opened (%s): containerd's API is asked", path, error.strerror)
            return None
        return file if os.fstat(file.fileno()).st_size == size else None

    async def pieces(
        self, digest: Digest, size: int, span: ByteRange, api: ContainerdApi | None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of `span`, all of them and in order.

        Args:
            digest: of the blob.
            size: of the blob in bytes.
            span: what of it is wanted.
            api: the connection, where there is one.

        Raises:
            BlobAbsent: the blob is not there any more, ends too early, or can not be read.
            ContainerdUnavailable: there is no file, and containerd can not be asked.
        """
        loop = asyncio.get_running_loop()
        done = span.start
        file = await loop.run_in_executor(self._executor, self.open_file, digest, size)
        if file is not None:
            while done < span.stop:
                count = min(_PIECE_SIZE_BYTES, span.stop - done)
                try:
                    piece = await loop.run_in_executor(self._executor, os.pread, file.fileno(), count, done)
                except OSError as error:
                    raise BlobAbsent(
                        f"containerd's file of {digest} can not be read at byte {done}: {error}"
                    ) from error
                if not piece:
                    raise BlobAbsent(f"containerd's file of {digest} ends at byte {done} of {size}")
                done += len(piece)
                yield piece
            return
        if api is None:
            raise ContainerdUnavailable(f"containerd is away, and there is no file of {digest} to read")
        async with aclosing(api.read(digest, span.start, len(span))) as answers:
            async for piece in answers:
                done += len(piece)
                yield piece
        if done != span.stop:
            raise BlobAbsent(f"containerd's {digest} ends at byte {done} of {size}")
