"""SELECT: by name, by the beginning of a name, by file id (virtual-card.md §3)."""

from __future__ import annotations

from stations.virtual.chip import MASTER, Chip
from stations.virtual.layout import ApplicationLayout
from stations.virtual.memory import CARD_BLOCKED, ENVIRONMENT_BLOCKED
from stations.virtual.payment import PAYMENT, PPSE, PSE, Payment
from stations.virtual.tlv import template
from stations.virtual.tpdu import Command, Refusal

SHORTEST_NAME = 5
BY_ID, UNDER, PARENT, BY_NAME = 0x00, 0x02, 0x03, 0x04
FIRST, NEXT, SILENT = 0x00, 0x02, 0x0C
SOCIAL = ("SSSE", "DF01", "DF02", "DF03", "DF04")


class Selection:
    """What is on the card, by name and by id."""

    def __init__(self, chip: Chip, payment: Payment) -> None:
        self._chip = chip
        self._payment = payment
        own = [application for application in chip.layout.applications if application.aid]
        self._named = [
            *own,
            *(ApplicationLayout(name, payment.aids[name], 0, ()) for name in (PAYMENT, PSE, PPSE)),
        ]

    def select(self, command: Command) -> bytes:
        """Return the FCI of an application, nothing for a file."""
        if command.p2 not in (FIRST, NEXT, SILENT) or (command.p2 == NEXT and command.p1 != BY_NAME):
            raise Refusal(0x6A86)
        if command.p1 == BY_NAME:
            answer = self._by_name(command.body, following=command.p2 == NEXT)
        elif command.p1 == PARENT and not command.body:
            answer = self._enter(self._parent())
        elif command.p1 == BY_ID and not command.body:
            answer = self._enter(self._chip.layout.application(MASTER))
        elif command.p1 in (BY_ID, UNDER) and len(command.body) == 2:
            answer = self._by_id(int.from_bytes(command.body), files_only=command.p1 == UNDER)
        else:
            raise Refusal(0x6A86)
        return b"" if command.p2 == SILENT else answer

    def _by_name(self, name: bytes, *, following: bool) -> bytes:
        exact = [one for one in self._named if one.aid == name]
        fitting = exact or [one for one in self._named if one.aid.startswith(name)]
        if len(name) < SHORTEST_NAME or not fitting:
            raise Refusal(0x6A82)
        if not following:
            return self._enter(fitting[0])
        names = [one.name for one in fitting]
        current = self._chip.session.application.name
        after = fitting[names.index(current) + 1 :] if current in names else fitting
        if not after:
            raise Refusal(0x6A82)
        return self._enter(after[0])

    def _by_id(self, fid: int, *, files_only: bool) -> bytes:
        application = self._chip.session.application
        file = next((file for file in application.files if file.fid == fid), None)
        if file is not None:
            self._chip.session.file = file
            return b""
        inside = application.name in SOCIAL
        for found in self._chip.layout.applications:
            reachable = found.name in (MASTER, "SSSE") or (inside and found.name in SOCIAL)
            if found.fid == fid and reachable and not files_only:
                return self._enter(found)
        raise Refusal(0x6A82)

    def _parent(self) -> ApplicationLayout:
        name = self._chip.session.application.name
        return self._chip.layout.application("SSSE" if name in SOCIAL[1:] else MASTER)

    def _enter(self, application: ApplicationLayout) -> bytes:
        self._chip.enter(application)
        self._payment.leave()
        if application.name in (PAYMENT, PSE, PPSE):
            return self._payment.fci(application.name)
        name = template("84", application.aid) if application.aid else template("83", b"\x3f\x00")
        parts = [name, template("8A", bytes((self._state(application.name),)))]
        if self._chip.layout.announces:
            code = bytes((self._chip.layout.algorithm.value,))
            parts.append(template("A5", template("9F0C", template("86", code))))
        return template("6F", *parts)

    def _state(self, name: str) -> int:
        state = self._chip.memory.state
        return ENVIRONMENT_BLOCKED if state != CARD_BLOCKED and self._chip.is_blocked(name) else state
