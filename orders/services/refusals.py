"""Why a package or a correction is refused: one class, one stable code for each reason, and its safe text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from portal.core.errors import ConflictError, InputRefusedError, PortalError
from portal.core.idnumbers import mask_number
from portal.core.problems import Problem
from portal.core.rows import TableRefusedError

TEXT_LENGTH = 500
# A photo's file is named by its person; any long run with digits could be a number or an account.
_PHOTO_NAME = re.compile(r"(?<=photos/)[^/；]+")
# Fingerprints and digests (16 or 64 hexadecimal digits with a letter) stay whole: people compare them.
_FINGERPRINT = r"(?=[0-9]*[a-f])(?:[0-9a-f]{64}|[0-9a-f]{16})(?![0-9A-Za-z])"
_NUMBER_LIKE = re.compile(rf"(?<![0-9A-Za-z])(?!{_FINGERPRINT})(?=[0-9A-Za-z]*\d{{4}})[0-9A-Za-z]{{12,}}")


class PackageRefusedError(InputRefusedError):
    """A package that is not taken in; subclasses name the exact reason."""

    code = "package_refused"


class PackageTooLargeError(PackageRefusedError):
    """The file is larger than this installation takes."""

    code = "package_too_large"


class UnknownSenderError(PackageRefusedError):
    """The envelope names a sender nobody here knows."""

    code = "unknown_sender"


class SenderKeyError(PackageRefusedError):
    """The sender has no public key that is valid now and was when the package was made."""

    code = "sender_key_invalid"


class ReplayedError(PackageRefusedError):
    """The package was received before."""

    code = "replayed"


class EmptyPackageError(PackageRefusedError):
    """A package of no records."""

    code = "empty_package"


class ManifestMissingError(PackageRefusedError):
    """No manifest.json."""

    code = "manifest_missing"


class ManifestUnreadableError(PackageRefusedError):
    """The manifest is not a JSON object with the fields it must have."""

    code = "manifest_unreadable"


class ManifestDiffersError(PackageRefusedError):
    """The manifest names another package than the signed envelope."""

    code = "manifest_differs"


class EncodingUnknownError(PackageRefusedError):
    """The manifest declares an encoding other than UTF-8 and GB 18030."""

    code = "encoding_unknown"


class RecordsMissingError(PackageRefusedError):
    """No records.csv."""

    code = "records_missing"


class CountDiffersError(PackageRefusedError):
    """Rows or photos are more or fewer than the manifest says."""

    code = "count_differs"


class MemberUnknownError(PackageRefusedError):
    """A file that does not belong into a package."""

    code = "member_unknown"


class MemberDoubledError(PackageRefusedError):
    """Two files of one name, so that nobody can say which of them counts."""

    code = "member_doubled"


class PhotoDoubledError(PackageRefusedError):
    """Two photos of one number, so that nobody can say whose face it is."""

    code = "photo_doubled"


class CorrectionRefusedError(InputRefusedError):
    """A correction after which the row is still wrong; `problems` says where."""

    code = "still_wrong"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        # What came may be personal and is not repeated here: whoever may see it reads `problems`.
        found = "；".join(f"{problem.field} {problem.code}，应为 {problem.expected}" for problem in problems)
        super().__init__("补录后仍有问题", got=found)


class NothingChangedError(InputRefusedError):
    """A correction that changes nothing."""

    code = "nothing_changed"


class ReasonMissingError(InputRefusedError):
    """An act that must be explained came without a reason."""

    code = "reason_missing"


class ColumnUnknownError(InputRefusedError):
    """A correction of a column that records do not have."""

    code = "column_unknown"


class AlreadyInProductionError(ConflictError):
    """The person or the card number has an open record already."""

    code = "already_in_production"


def safe_text(error: PortalError) -> str:
    """Return an error's text for lists and the audit: no number of a person, no cell of a table (R-45)."""
    shown = error
    if isinstance(error, TableRefusedError):  # without a heading the first person stands in its place
        shown = PortalError(error.message, where=error.where, expected=error.expected)
    text = _PHOTO_NAME.sub("***", str(shown))
    return _NUMBER_LIKE.sub(lambda match: mask_number(match[0]), text)[:TEXT_LENGTH]
