"""The photo for the chip: small enough, the same bytes each time, refused when it is none (R-18)."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from portal.samples.photos import draw_bust, encode_to_weight, with_comment
from production.personalization.chip_photo import ChipPhotoError, chip_photo


def jpeg(pixels: np.ndarray, quality: int = 90) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=quality)
    return sink.getvalue()


@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_a_portrait_fits_and_is_the_same_each_time(seed: str) -> None:
    photo = encode_to_weight(draw_bust(seed))
    made = chip_photo(photo, 4096)
    assert len(made) <= 4096
    assert made.endswith(b"\xff\xd9")
    chip_photo(encode_to_weight(draw_bust(f"{seed}2")), 4096)  # another one in between
    assert chip_photo(photo, 4096) == made


def test_no_words_of_the_file_go_on_the_chip() -> None:
    photo = with_comment(encode_to_weight(draw_bust("a")), "planted comment")
    assert b"planted" in photo
    assert b"planted" not in chip_photo(photo, 4096)


def test_noise_is_made_smaller_until_it_fits() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (441, 358, 3), dtype=np.uint8)
    made = chip_photo(jpeg(noise), 6000)
    with Image.open(io.BytesIO(made)) as picture:
        assert (len(made) <= 6000, picture.width < 179) == (True, True)


@pytest.mark.parametrize("raw", [b"", b"\xff\xd8\xff", b"GIF89a", b"no picture at all"])
def test_what_is_no_photo_is_refused(raw: bytes) -> None:
    with pytest.raises(ChipPhotoError, match="无法读取"):
        chip_photo(raw, 4096)


def test_a_cut_photo_is_refused() -> None:
    photo = encode_to_weight(draw_bust("a"))
    with pytest.raises(ChipPhotoError, match="无法读取"):
        chip_photo(photo[: len(photo) // 2], 4096)


def test_a_file_too_small_for_any_photo_says_so() -> None:
    with pytest.raises(ChipPhotoError, match="放不进芯片") as caught:
        chip_photo(encode_to_weight(draw_bust("a")), 200)
    assert caught.value.where == "SSSE/EF08"
