"""The payment application of a card: the bank's reviewed groups, filled with the card's account (R-16)."""

from __future__ import annotations

from django.conf import settings

from orders.personal import open_account
from portal.core.clock import today
from portal.core.keystore import KeyMissingError
from portal.files import keystore
from production.models import Card
from production.personalization.payment import PaymentData
from production.personalization.payment_data import BankGroups, PaymentAccount, build_payment
from production.personalization.scripts import PUBLIC_KEY
from production.selectors.holders import holder_of
from production.selectors.payment import bank_groups


def payment_of(card: Card) -> PaymentData | None:
    """Return what the bank has put on this card, None when it supplied nothing; raise PaymentDataError."""
    groups, record = bank_groups(card.bank.code), card.item.record
    if groups is None or record is None:
        return None
    holder = holder_of(record)
    account = PaymentAccount(open_account(record), holder.issue_on, holder.expires_on)
    return build_payment(groups, account, _masters(groups))


def _masters(groups: BankGroups) -> dict[str, bytes]:
    """Return the bank's masters by role; outside production test keys, and test blanks' public KMC (A-17)."""
    names, store = groups.key_names(), keystore()
    newest = store.newest_masters(names.values(), on=today())
    missing = [name for name in names.values() if name not in newest]
    if missing and settings.PRODUCTION:
        raise KeyMissingError("没有这个主密钥", where=missing[0])
    drawn = [name for name in missing if name != names["kmc"]]
    if drawn:
        store.generate_test_masters(drawn)
    found = {role: store.master_key(name) for role, name in names.items() if name != names["kmc"]}
    return found | {"kmc": PUBLIC_KEY if names["kmc"] in missing else store.master_key(names["kmc"])}
