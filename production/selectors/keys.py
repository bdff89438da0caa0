"""Card master keys as the card profile asks for them."""

from __future__ import annotations

from django.conf import settings

from production.personalization.profile import CardKey, load_profile

_ENCRYPTS = 7


def master_key_name(key: CardKey) -> str:
    """Return the name of a card key's master key in the key store."""
    return key.full_name.replace("/", "-")


def master_key_names() -> dict[str, str]:
    """Return the name of each master key the cards need, with what it is for."""
    profile = load_profile(settings.CARD_PROFILE)
    return {master_key_name(key): _use(key) for key in profile.keys}


def _use(key: CardKey) -> str:
    kind = "加密" if key.key_type == _ENCRYPTS else "校验与加密"
    return f"{key.application} {key.name}：{kind}，{key.levels} 级分散"
