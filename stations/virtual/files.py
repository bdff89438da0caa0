"""READ and UPDATE of records and bodies with their access conditions (virtual-card.md §4)."""

from __future__ import annotations

from stations.virtual.chip import Chip
from stations.virtual.layout import CYCLIC_RECORDS, FileLayout, Structure, condition
from stations.virtual.memory import file_path
from stations.virtual.tlv import record
from stations.virtual.tpdu import MOST, Command, Refusal

BY_TAG, BY_NUMBER = 0x00, 0x04


class Files:
    """The file commands of the social security and certificate applications."""

    def __init__(self, chip: Chip) -> None:
        self._chip = chip

    def read_record(self, command: Command) -> bytes:
        """Return a record with tag and length; a cyclic one is bare, 01 the newest."""
        mode = self._mode(command, BY_TAG, BY_NUMBER)
        file = self._file(command.p2 >> 3, Structure.RECORDS, Structure.CYCLIC)
        cyclic = file.structure is Structure.CYCLIC
        if cyclic and mode == BY_TAG:
            raise Refusal(0x6981)
        self._may_read(file)
        records = self._records(file)
        index = self._index(file, command.p1, mode)
        return records[index] if cyclic else record(file.records[index][0], records[index])

    def update_record(self, command: Command) -> bytes:
        """Write a whole record given as TLV."""
        mode = self._mode(command, BY_TAG, BY_NUMBER)
        file = self._file(command.p2 >> 3, Structure.RECORDS)
        content = self._may_write(file, command)
        index = self._index(file, command.p1, mode)
        tag, length, _ = file.records[index]
        if content[:2] != bytes((tag, length)):
            raise Refusal(0x6A80)
        if len(content) != length + 2:
            raise Refusal(0x6700)
        self._chip.write(self._path(file), index, 0, content[2:])
        return b""

    def append_record(self, command: Command) -> bytes:
        """Make a record the newest of a cyclic file; the oldest falls off."""
        if command.p1 or command.p2 & 0x07:
            raise Refusal(0x6A86)
        file = self._file(command.p2 >> 3, Structure.CYCLIC)
        content = self._may_write(file, command)
        if len(content) != file.size:
            raise Refusal(0x6700)
        path = self._path(file)
        kept = self._records(file)[: CYCLIC_RECORDS - 1]
        self._chip.memory.files[path] = [bytes(file.size), *kept]
        self._chip.write(path, 0, 0, content)
        return b""

    def read_binary(self, command: Command) -> bytes:
        """Return what is left of a body from the offset, at most 255 bytes."""
        file, offset = self._body(command)
        self._may_read(file)
        return self._content(file, offset)[offset : offset + MOST]

    def update_binary(self, command: Command) -> bytes:
        """Write into a body."""
        file, offset = self._body(command)
        content = self._may_write(file, command)
        whole = self._content(file, offset)
        if not content or offset + len(content) > len(whole):
            raise Refusal(0x6700)
        self._chip.write(self._path(file), 0, offset, content)
        return b""

    # --- which file, which record -------------------------------------------------------------------------
    def _mode(self, command: Command, *allowed: int) -> int:
        mode = command.p2 & 0x07
        if mode not in allowed:
            raise Refusal(0x6A86)
        return mode

    def _file(self, short_id: int, *structures: Structure) -> FileLayout:
        """Return the file of a short id, which becomes the current one, or the current one for 0."""
        session = self._chip.session
        if short_id:
            found = next((one for one in session.application.files if one.fid & 0x1F == short_id), None)
            if found is None:
                raise Refusal(0x6A82)
            session.file = found
        if session.file is None:
            raise Refusal(0x6986)
        if session.file.structure not in structures:
            raise Refusal(0x6981)
        return session.file

    def _body(self, command: Command) -> tuple[FileLayout, int]:
        short = bool(command.p1 & 0x80)
        if command.p1 & 0x60 and short:
            raise Refusal(0x6A86)
        file = self._file(command.p1 & 0x1F if short else 0, Structure.TRANSPARENT)
        return file, command.p2 if short else (command.p1 << 8) | command.p2

    def _index(self, file: FileLayout, wanted: int, mode: int) -> int:
        if mode == BY_TAG:
            tags = [tag for tag, _, _ in file.records]
            if wanted not in tags:
                raise Refusal(0x6A88)
            return tags.index(wanted)
        if not 1 <= wanted <= len(self._records(file)):
            raise Refusal(0x6A83)
        return wanted - 1

    # --- access -------------------------------------------------------------------------------------------
    def _may_read(self, file: FileLayout) -> None:
        self._chip.refuse_blocked()
        if not self._chip.holds(file.read):
            raise Refusal(0x6982)

    def _may_write(self, file: FileLayout, command: Command) -> bytes:
        """Return the data of an UPDATE: proven by authentication when plain, by its MAC when secured."""
        self._chip.refuse_blocked()
        if command.secured:
            return self._chip.open_secured(command, file.write)
        if not self._chip.holds(condition(file.write)):
            raise Refusal(0x6982)
        return command.body

    # --- content ------------------------------------------------------------------------------------------
    def _path(self, file: FileLayout) -> str:
        return file_path(self._chip.session.application.name, file.fid)

    def _records(self, file: FileLayout) -> list[bytes]:
        return self._chip.memory.files[self._path(file)]

    def _content(self, file: FileLayout, offset: int) -> bytes:
        (whole,) = self._records(file)
        if offset >= len(whole):
            raise Refusal(0x6A86)
        return whole
