r"""Files that are encrypted with a passphrase, written and read as streams.

The key is made of the passphrase by scrypt (RFC 7914, N = 2^17, r = 8, p = 1), the content is cut into pieces of 64 KiB, each sealed
by ChaCha20-Poly1305 under a nonce of a random prefix, its number, and whether it is the last (the STREAM construction of Hoang,
Reyhanitabar, Rogaway and Vizár, 2015): a piece that was changed, moved, left out or cut off does not open. The cipher and scrypt are
those of the library `cryptography`.

    "fundoscope-sealed 1\n" | salt (16) | prefix (7) | pieces: 64 KiB + tag (16), the last one shorter or as long
"""

from __future__ import annotations

import io
import secrets
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from fundoscope.errors import UsageError

MAGIC = b"fundoscope-sealed 1\n"
PIECE = 64 << 10
SCRYPT_COST = 2**17
_TAG = 16
_SALT, _PREFIX = 16, 7
SHORTEST_PASSPHRASE = 12


class SealedWriter(io.RawIOBase):
    """Encrypts what is written to it; `close` seals the last piece, and leaves the file below open."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        header = MAGIC + secrets.token_bytes(_SALT + _PREFIX)
        self._cipher, self._prefix = _open_cipher(header, passphrase)
        self._file, self._header = file, header
        self._held = bytearray()
        self._number = 0
        file.write(header)

    def writable(self) -> bool:
        """It can be written."""
        return True

    def write(self, content: bytes, /) -> int:  # ty: ignore[incompatible-method-override]
        """Take bytes; full pieces go out, the last one is held until more comes or the end."""
        self._held += content
        while len(self._held) > PIECE:
            self._seal(bytes(self._held[:PIECE]), last=False)
            del self._held[:PIECE]
        return len(content)

    def close(self) -> None:
        """Write the last piece."""
        if not self.closed:
            self._seal(bytes(self._held), last=True)
        super().close()

    def _seal(self, piece: bytes, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._prefix, self._number, last), piece, self._header))
        self._number += 1


class SealedReader(io.RawIOBase):
    """Gives what `SealedWriter` took. Raises `UsageError` for a wrong passphrase, and for a file that was changed or cut."""

    def __init__(self, file: BinaryIO, passphrase: str) -> None:
        header = file.read(len(MAGIC) + _SALT + _PREFIX)
        self._cipher, self._prefix = _open_cipher(header, passphrase)
        self._file, self._header = file, header
        self._ahead = file.read(PIECE + _TAG)
        self._open = memoryview(b"")
        self._number = 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # ty: ignore[incompatible-method-override]
        """Fill the buffer as far as the piece at hand goes; 0 at the end."""
        while not self._open:
            if not self._ahead:
                return 0
            piece, self._ahead = self._ahead, self._file.read(PIECE + _TAG)
            try:
                opened = self._cipher.decrypt(_nonce(self._prefix, self._number, not self._ahead), piece, self._header)
            except InvalidTag:
                told = (
                    "the passphrase is wrong, or the file was changed"
                    if self._number == 0
                    else "the file was changed or cut off"
                )
                raise UsageError(
                    f"The backup does not open: {told}. Check the passphrase, or take another backup."
                ) from None
            self._open = memoryview(opened)
            self._number += 1
        count = min(len(buffer), len(self._open))
        buffer[:count] = self._open[:count]
        self._open = self._open[count:]
        return count


def is_sealed(file: BinaryIO) -> bool:
    """Whether a file that is open at its beginning is an encrypted one; it stays at its beginning."""
    first = file.read(len(MAGIC))
    file.seek(0)
    return first == MAGIC


def _open_cipher(header: bytes, passphrase: str) -> tuple[ChaCha20Poly1305, bytes]:
    salt, prefix = header[len(MAGIC) : len(MAGIC) + _SALT], header[len(MAGIC) + _SALT :]
    if len(prefix) != _PREFIX or not header.startswith(MAGIC):
        raise UsageError("The backup does not open: it is cut off at its beginning. Take another backup.")
    key = Scrypt(salt=salt, length=32, n=SCRYPT_COST, r=8, p=1).derive(passphrase.encode())
    return ChaCha20Poly1305(key), prefix


def _nonce(prefix: bytes, number: int, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])
