"""Bring every key of a store under another KEK while the portal works; killed anywhere, it goes on later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from portal.core.errors import ConflictError
from portal.core.key_folder import KeyFolder, Marks
from portal.core.key_refusals import ForeignKekError, KeyUnreadableError
from portal.core.key_wrapping import KeyWrapper


@dataclass(slots=True)
class Rotation:
    """What a change of the KEK did; `unreadable` names files that hold it up."""

    before: str
    after: str
    rewrapped: int = 0
    untouched: int = 0
    unreadable: list[str] = field(default_factory=list)


def rotate(folder: KeyFolder, target: KeyWrapper, *, progress: Callable[[], None] = lambda: None) -> Rotation:
    """Wrap every key file anew under `target`; the folder must hold the old and the new KEK.

    Old files open under the old KEK and new ones under the new one until the last is done. Raises
    ConflictError while another change is unfinished, KeyUnreadableError when damaged files remain: all
    others are done then, and the next call goes on.
    """
    marks = folder.marks()
    if marks.current == target.check_value:
        raise ForeignKekError("密钥库已在这个主控密钥（KEK）之下", got=marks.current)
    if marks.next and marks.next != target.check_value:
        raise ConflictError("另一次轮换尚未完成", expected=marks.next, got=target.check_value)
    folder.mark(Marks(marks.current, target.check_value))
    folder.clear_drafts()
    done = Rotation(marks.current, target.check_value)
    for key_id in sorted(folder.key_ids()):
        _rewrap(folder, key_id, target, done)
        progress()
    if done.unreadable:
        raise KeyUnreadableError("有密钥文件无法打开，轮换未完成", where="、".join(done.unreadable[:20]))
    folder.mark(Marks(target.check_value))
    return done


def _rewrap(folder: KeyFolder, key_id: str, target: KeyWrapper, done: Rotation) -> None:
    try:
        if folder.rewrap(key_id, target):
            done.rewrapped += 1
        else:
            done.untouched += 1
    except KeyUnreadableError as exc:
        done.unreadable.append(exc.where)
