"""Tokens that cannot be guessed. Only their digest is kept, so that who reads the database cannot use them."""

from __future__ import annotations

import hashlib
import secrets


def new_secret(prefix: str = "") -> str:
    """A new token of 256 random bits, safe in a URL and in a cookie."""
    return prefix + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """SHA-256 of a token, in hex: what the database keeps. A random token needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()
