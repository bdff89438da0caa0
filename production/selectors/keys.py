"""Card master keys as the cards ask for them, and the transport keys of their blanks."""

from __future__ import annotations

from django.conf import settings
from django.db.models import F

from production.models import StockLot
from production.personalization.profile import CardKey, load_profile
from production.selectors.payment import payment_master_names

TRANSPORT = "transport"
_ENCRYPTS = 7


def master_key_name(key: CardKey) -> str:
    """Return the name of a card key's master key in the key store."""
    return key.full_name.replace("/", "-")


def master_key_names() -> dict[str, str]:
    """Return the name of each master key that may be imported, with what it is for.

    Beside the card's own keys: the key each maker left on the blanks of a lot, and ours that replaces it.
    """
    profile = load_profile(settings.CARD_PROFILE)
    lots = StockLot.objects.filter(next_offset__lt=F("quantity")).order_by("-id")
    return {
        **{master_key_name(key): _use(key) for key in profile.keys},
        TRANSPORT: "平台的传输密钥，逐卡分散后换入卡片",
        **payment_master_names(),
        **{
            f"{TRANSPORT}-{number}": f"白卡批 {number} 的厂商传输密钥"
            for number in lots.values_list("number", flat=True)
        },
    }


def _use(key: CardKey) -> str:
    kind = "加密" if key.key_type == _ENCRYPTS else "校验与加密"
    return f"{key.application} {key.name}：{kind}，{key.levels} 级分散"
