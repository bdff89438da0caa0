"""Why the key store refuses: one class, one stable code for each reason."""

from __future__ import annotations

from portal.core.errors import ConflictError, InputRefusedError, PortalError


class KeyMissingError(PortalError):
    """No key of this name was ever here, or its file was lost."""

    code = "key_missing"


class KeyDestroyedError(PortalError):
    """The key was destroyed on purpose; what it sealed is gone."""

    code = "key_destroyed"


class KeyExistsError(ConflictError):
    """A key of this name and version is here already; keys are never replaced."""

    code = "key_exists"


class KeyUnreadableError(PortalError):
    """A key file is cut, changed, renamed or wrapped by another KEK."""

    code = "key_unreadable"


class KeyPurposeError(PortalError):
    """The key is for something else than what it was asked for."""

    code = "key_purpose"


class ForeignKekError(PortalError):
    """The store was made under another key-encryption key."""

    code = "foreign_kek"


class CheckValueError(InputRefusedError):
    """The components do not give the key with the announced check value."""

    code = "check_value"


class KeyExpiredError(PortalError):
    """No version of the card master key is valid on the day: no new card may be made with it."""

    code = "key_expired"


class KeyForTestsError(PortalError):
    """A test key, or a publicly known one, where real cards are made."""

    code = "test_key_refused"


class KeyPermissionError(PortalError):
    """A key file or its directory is open to others, or belongs to somebody else."""

    code = "key_permission"


class TokenMissingError(PortalError):
    """The PKCS#11 module or the token in it is not there, or the name fits several."""

    code = "token_missing"


class TokenPinError(PortalError):
    """The token refused the PIN, or there is none to give it."""

    code = "token_pin"


class TokenKeyMissingError(PortalError):
    """The token holds no wrapping key of this label, or several."""

    code = "token_key_missing"


class KeyExtractableError(PortalError):
    """The wrapping key could leave its token or be used without a PIN: it protects nothing."""

    code = "key_extractable"


class TokenFailedError(PortalError):
    """The token does not answer as it should, also after its session was opened anew."""

    code = "token_failed"
