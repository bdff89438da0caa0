"""What a printer sees of a PWG Raster document: read by libcups, which shares nothing with our writer."""

from __future__ import annotations

import ctypes
import os
import tempfile
from ctypes import c_char, c_char_p, c_float, c_int, c_ubyte, c_uint, c_void_p
from dataclasses import dataclass

from PIL import Image

READ = 0


class _Header(ctypes.Structure):
    """cups_page_header2_t (cups/raster.h)."""

    _fields_ = [
        ("MediaClass", c_char * 64), ("MediaColor", c_char * 64), ("MediaType", c_char * 64),
        ("OutputType", c_char * 64), ("AdvanceDistance", c_uint), ("AdvanceMedia", c_uint),
        ("Collate", c_uint), ("CutMedia", c_uint), ("Duplex", c_uint), ("HWResolution", c_uint * 2),
        ("ImagingBoundingBox", c_uint * 4), ("InsertSheet", c_uint), ("Jog", c_uint), ("LeadingEdge", c_uint),
        ("Margins", c_uint * 2), ("ManualFeed", c_uint), ("MediaPosition", c_uint), ("MediaWeight", c_uint),
        ("MirrorPrint", c_uint), ("NegativePrint", c_uint), ("NumCopies", c_uint), ("Orientation", c_uint),
        ("OutputFaceUp", c_uint), ("PageSize", c_uint * 2), ("Separations", c_uint), ("TraySwitch", c_uint),
        ("Tumble", c_uint), ("cupsWidth", c_uint), ("cupsHeight", c_uint), ("cupsMediaType", c_uint),
        ("cupsBitsPerColor", c_uint), ("cupsBitsPerPixel", c_uint), ("cupsBytesPerLine", c_uint),
        ("cupsColorOrder", c_uint), ("cupsColorSpace", c_uint), ("cupsCompression", c_uint),
        ("cupsRowCount", c_uint), ("cupsRowFeed", c_uint), ("cupsRowStep", c_uint), ("cupsNumColors", c_uint),
        ("cupsBorderlessScalingFactor", c_float), ("cupsPageSize", c_float * 2),
        ("cupsImagingBBox", c_float * 4), ("cupsInteger", c_int * 16), ("cupsReal", c_float * 16),
        ("cupsString", (c_char * 64) * 16), ("cupsMarkerType", c_char * 64),
        ("cupsRenderingIntent", c_char * 64), ("cupsPageSizeName", c_char * 64),
    ]  # fmt: skip


@dataclass(frozen=True)
class RasterPage:
    """A page as libcups reads it; `transforms`: across and along the feed, as the page's header says."""

    image: Image.Image
    resolution: tuple[int, int]
    points: tuple[int, int]
    duplex: bool
    tumble: bool
    count: int
    transforms: tuple[int, int]
    medium: str


def pages_of(content: bytes) -> list[RasterPage]:
    """Return the pages of a document."""
    cups = ctypes.CDLL("libcups.so.2")
    cups.cupsRasterOpen.restype = c_void_p
    cups.cupsRasterReadHeader2.argtypes = [c_void_p, ctypes.POINTER(_Header)]
    cups.cupsRasterReadPixels.argtypes = [c_void_p, c_void_p, c_uint]
    cups.cupsRasterClose.argtypes = [c_void_p]
    pages = []
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        raster = cups.cupsRasterOpen(file.fileno(), READ)
        header = _Header()
        while cups.cupsRasterReadHeader2(raster, header):
            pages.append(_page(cups, raster, header))
        cups.cupsRasterClose(raster)
    return pages


def _page(cups: ctypes.CDLL, raster: c_void_p, header: _Header) -> RasterPage:
    size = header.cupsBytesPerLine * header.cupsHeight
    pixels = (c_ubyte * size)()
    assert cups.cupsRasterReadPixels(raster, pixels, size) == size, "a page is cut"
    return RasterPage(
        Image.frombytes("RGB", (header.cupsWidth, header.cupsHeight), bytes(pixels)),
        tuple(header.HWResolution),
        tuple(header.PageSize),
        bool(header.Duplex),
        bool(header.Tumble),
        header.cupsInteger[0],
        (header.cupsInteger[1], header.cupsInteger[2]),
        header.cupsPageSizeName.decode(),
    )


def transforms_of(sides: str, sheet_back: str) -> tuple[int, int]:
    """Return what libcups itself writes into the header of a back."""
    cups = ctypes.CDLL("libcups.so.2")
    cups.pwgMediaForPWG.restype = c_void_p
    cups.cupsRasterInitPWGHeader.argtypes = [
        ctypes.POINTER(_Header), c_void_p, c_char_p, c_int, c_int, c_char_p, c_char_p,
    ]  # fmt: skip
    header = _Header()
    medium = cups.pwgMediaForPWG(b"iso_id-1_53.98x85.6mm")
    assert cups.cupsRasterInitPWGHeader(
        header, medium, b"srgb_8", 300, 300, sides.encode(), sheet_back.encode()
    ), "libcups refuses"
    return header.cupsInteger[1], header.cupsInteger[2]


def face_up(page: Image.Image) -> Image.Image:
    """Return a page of an upright card as a person looks at its face: turned back clockwise."""
    return page.transpose(Image.Transpose.ROTATE_270)
