"""Where the sealed files of a run stand, and the key under which the line gets the card keys."""

from __future__ import annotations

from portal.core.crypto import FieldCipher, derive_key
from portal.files import keystore
from production.models import Batch, MachineFile

_TRANSPORT = b"line transport"


def machine_name(run: MachineFile) -> str:
    """Return the name of a run's machine file: always the same, so a second try replaces the first."""
    return f"{_stem(run)}.machine"


def report_name(run: MachineFile) -> str:
    """Return the name of the line's report on a run."""
    return f"{_stem(run)}.report"


def run_label(run: MachineFile) -> str:
    """Return what a report names its run by: batch number, pass and part."""
    return f"{run.batch.number}/{run.pass_number}/{run.part}"


def line_cipher(batch: Batch) -> FieldCipher:
    """Return the line's transport cipher: card keys leave the portal wrapped under it only (R-25)."""
    return FieldCipher(derive_key(keystore().key(batch.key_id), _TRANSPORT))


def _stem(run: MachineFile) -> str:
    return f"batches/{run.batch_id}/pass{run.pass_number}/{run.part}"
