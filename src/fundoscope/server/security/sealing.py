"""Passwords of other systems, kept so that the room can use them and nobody can read them in the database or in a backup.

They are sealed by ChaCha20-Poly1305 (RFC 8439) under a key of the room in `DATA/passwords.key`, which is made when the first password is
kept, is for its owner only, and is in no backup.
"""

from __future__ import annotations

import base64
import os
import secrets
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fundoscope.languages import gettext as _
from fundoscope.server.errors import ConflictError
from fundoscope.server.settings import ServerSettings

KEY_FILE = "passwords.key"
_KEY, _NONCE = 32, 12  # bytes


def seal(settings: ServerSettings, text: str) -> str:
    """A text that only this room opens; blank stays blank."""
    if not text:
        return ""
    nonce = secrets.token_bytes(_NONCE)
    return base64.b64encode(nonce + ChaCha20Poly1305(_read_key(settings)).encrypt(nonce, text.encode(), None)).decode()


def unseal(settings: ServerSettings, sealed: str) -> str:
    """The text that was sealed; raises `ConflictError` where the key is gone, or is another one."""
    if not sealed:
        return ""
    content = base64.b64decode(sealed)
    try:
        return ChaCha20Poly1305(_read_key(settings)).decrypt(content[:_NONCE], content[_NONCE:], None).decode()
    except InvalidTag:
        told = _(
            "The password cannot be opened: {file} is not the key that it was kept with. Enter the password again."
        )
        raise ConflictError(told.format(file=KEY_FILE)) from None


def _read_key(settings: ServerSettings) -> bytes:
    """The key of the room; made whole or not at all, also where two ask for it at once."""
    file = settings.data / KEY_FILE
    if not file.exists():
        aside = Path(f"{file}.{secrets.token_hex(8)}")
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as opened:
            opened.write(secrets.token_bytes(_KEY))
            opened.flush()
            os.fsync(opened.fileno())
        try:
            with suppress(FileExistsError):  # somebody was quicker
                os.link(aside, file)
        finally:
            aside.unlink()
    key = file.read_bytes()
    if len(key) != _KEY:
        told = _("{file} is damaged. Restore it, or remove it and enter the passwords again.")
        raise ConflictError(told.format(file=KEY_FILE))
    return key
