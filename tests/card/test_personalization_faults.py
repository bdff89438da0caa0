"""A card that fails in the middle is never good, and reading it again tells what became of it (D8, R-18)."""

from __future__ import annotations

import pytest

from production.personalization.card_work import UnfinishedCardError
from production.personalization.scripts import (
    CardResponse,
    Script,
    Verification,
    identify,
    personalize,
    reidentify,
    reread,
    verify,
    verify_reread,
)
from stations.transport.base import TransportError
from stations.transport.virtual import VirtualTransport
from stations.virtual.card import SmartCard
from stations.virtual.faults import parse_fault
from tests.card.personalizing import make_blank, make_job, payment, photo, powered, run

# Behind the first script (8 exchanges with GET RESPONSE): every 37th, and around the end.
PLACES = [*range(9, 300, 37), *range(300, 330, 2)]


def as_far_as_it_goes(transport: VirtualTransport, script: Script) -> list[CardResponse]:
    answers: list[CardResponse] = []
    for command in script:
        try:
            answer = transport.transmit(command.apdu)
        except TransportError:
            break
        answers.append(CardResponse(answer.data, answer.sw))
        if answer.sw not in command.expect:
            break
    return answers


def made_with(fault: str, code: str) -> tuple[SmartCard, Verification, bool]:
    """Make a whole card with a fault; return it, what the answers prove, and whether all came."""
    job = make_job(code, photo=photo(), payment=payment())
    card = make_blank(code, faults=[parse_fault(fault)])
    transport = powered(card)
    first, memory = identify(job)
    script, memory = personalize(job, memory, run(transport, first))
    answers = as_far_as_it_goes(transport, script)
    return card, verify(job, memory, answers), len(answers) == len(script)


def read_again(card: SmartCard, code: str) -> str:
    """Return what reading again says of the card."""
    job = make_job(code, photo=photo(), payment=payment())
    transport = powered(card)
    first, memory = reidentify(job)
    try:
        script, memory = reread(job, memory, run(transport, first))
    except UnfinishedCardError:
        return "unfinished"
    return verify_reread(job, memory, run(transport, script)).code or "good"


@pytest.mark.parametrize("code", ["sssc-3.0-sm4", "sssc-2.0-3des"])
@pytest.mark.parametrize("kind", ["pulled", "pulled-after"])
def test_a_card_pulled_anywhere_is_unfinished_or_good_when_it_is_read_again(kind: str, code: str) -> None:
    """D8: never good by what is missing; good by reading again only once the last key was replaced."""
    seen = []
    for place in PLACES:
        card, found, complete = made_with(f"{kind}@{place}", code)
        assert found.good is complete
        assert found.code == ("" if complete else "incomplete")
        seen.append(read_again(card, code))
    assert seen == sorted(seen, reverse=True)  # unfinished up to the end, good from there on
    assert set(seen) == {"unfinished", "good"}


@pytest.mark.parametrize("code", ["sssc-3.0-sm4", "sssc-2.0-3des"])
def test_a_memory_error_anywhere_is_never_good(code: str) -> None:
    """6581: half of a record may stand there; the script stops and the card is unfinished."""
    for place in range(9, 200, 19):
        card, found, complete = made_with(f"memory@{place}", code)
        assert (found.good, found.code) == ((True, "") if complete else (False, "card_refused"))
        assert read_again(card, code) == ("good" if complete else "unfinished")
