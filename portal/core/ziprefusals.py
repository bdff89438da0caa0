"""The reasons a ZIP is refused for, each with its own stable code."""

from __future__ import annotations

from portal.core.errors import InputRefusedError


class ZipRefusedError(InputRefusedError):
    """A ZIP that cannot be read to its end."""

    code = "zip_damaged"


class NotAZipError(ZipRefusedError):
    """No ZIP at all, or one whose end is missing."""

    code = "zip_truncated"


class ZipPathError(ZipRefusedError):
    """A member's name that could leave the folder it is written to."""

    code = "zip_path"


class ZipTooManyError(ZipRefusedError):
    """More members than the limits allow."""

    code = "zip_too_many"


class ZipEncryptedError(ZipRefusedError):
    """A member under ZIP's own password protection."""

    code = "zip_encrypted"


class ZipMethodError(ZipRefusedError):
    """A member packed by a method other than stored and deflated."""

    code = "zip_method"


class ZipOversizeError(ZipRefusedError):
    """A member, or all of them together, larger than allowed."""

    code = "zip_oversize"


class ZipBombError(ZipRefusedError):
    """A member that unpacks to absurdly more than it holds."""

    code = "zip_bomb"


class ZipOverlapError(ZipRefusedError):
    """Members that share bytes of the file, or stand out of order so that this cannot be excluded."""

    code = "zip_overlap"


class ZipMismatchError(ZipRefusedError):
    """A member whose own header or content contradicts the directory."""

    code = "zip_mismatch"


def shown_name(name: str) -> str:
    """Shorten a hostile name and make its control characters visible for a message."""
    return repr(name[:80])[1:-1]
