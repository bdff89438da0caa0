"""Why a sealed container is refused: one class, one stable code for each reason."""

from __future__ import annotations

from portal.core.errors import SealRefusedError


class NotAContainerError(SealRefusedError):
    """The file is not a ZIP, or its end is missing."""

    code = "not_a_container"


class ContainerBrokenError(SealRefusedError):
    """The ZIP's own structure contradicts itself."""

    code = "container_broken"


class MembersRefusedError(SealRefusedError):
    """A member is missing, doubled or not one of the two that belong there."""

    code = "members_refused"


class MemberCompressedError(SealRefusedError):
    """A member is compressed or encrypted by the ZIP, where only stored ones are read."""

    code = "member_compressed"


class MemberStreamedError(SealRefusedError):
    """A member whose lengths and checksum stand behind it instead of in front (a data descriptor)."""

    code = "member_streamed"


class EnvelopeOversizeError(SealRefusedError):
    """The envelope is larger than any honest one."""

    code = "envelope_oversize"


class EnvelopeUnreadableError(SealRefusedError):
    """The envelope is not a JSON object in UTF-8."""

    code = "envelope_unreadable"


class EnvelopeNotCanonicalError(SealRefusedError):
    """The envelope says what it says in another form than the one that is signed."""

    code = "envelope_not_canonical"


class EnvelopeFieldError(SealRefusedError):
    """A field of the envelope is missing, unknown or malformed."""

    code = "envelope_field"


class VersionUnknownError(SealRefusedError):
    """The format version is not one this portal reads."""

    code = "version_unknown"


class AlgorithmUnknownError(SealRefusedError):
    """The envelope names other algorithms than SM2, SM3 and SM4-GCM."""

    code = "algorithm_unknown"


class ChunkSizeError(SealRefusedError):
    """The chunk size is outside the allowed range."""

    code = "chunk_size_refused"


class SizeMismatchError(SealRefusedError):
    """The payload is longer or shorter than the envelope says."""

    code = "size_mismatch"


class WrongRecipientError(SealRefusedError):
    """The package is addressed to somebody else."""

    code = "wrong_recipient"


class BadSignatureError(SealRefusedError):
    """The signature is not the sender's over this envelope."""

    code = "bad_signature"


class PayloadChangedError(SealRefusedError):
    """The payload is not the one whose digest the sender signed."""

    code = "payload_changed"


class WrongKeyError(SealRefusedError):
    """The content key is not wrapped for this portal's private key."""

    code = "wrong_key"
