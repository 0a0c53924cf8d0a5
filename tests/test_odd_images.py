"""Odd images that are sound: other colour modes, 16 bits, one pixel, 108 million pixels."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets.folder import pil_loader

from conftest import ROOT
from efficientconv.data import FileSplit, load_data
from efficientconv.data.decode import read_rgb, rgb_pixels
from efficientconv.data.parallel import in_parallel
from efficientconv.data.prepared import Recipe
from efficientconv.preparation.archive import encoded
from efficientconv.preparation.source import Item
from test_data_helpers import assert_load_refused, assert_refused, config, evaluate, photos, train, tree


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "P with alpha", "RGBA", "CMYK", "YCbCr"])
def test_colour_modes_are_read_as_torchvision_reads_them(mode, tmp_path, recwarn):
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
    path = tmp_path / ("image.jpg" if mode in ("CMYK", "YCbCr") else "image.png")
    alpha = {"transparency": bytes(range(256))} if mode == "P with alpha" else {}
    colours.convert(mode.split()[0]).save(path, **alpha)
    ours = read_rgb(str(path))
    assert not recwarn.list
    assert ours.mode == "RGB" and np.array_equal(ours, pil_loader(path))


@pytest.mark.parametrize("form", [
    dict(mode="RGB"), dict(mode="RGB", subsampling="4:4:4"), dict(mode="RGB", subsampling="4:2:2", progressive=True),
    dict(mode="L"), dict(mode="CMYK"), dict(mode="RGB", keep_rgb=True),
], ids=str)  # fmt: skip
def test_jpegs_are_decoded_as_by_pil_to_the_bit(form, tmp_path):
    form, path = dict(form), tmp_path / "image.jpg"
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8))
    colours.convert(form.pop("mode")).save(path, quality=80, **form)
    assert np.array_equal(rgb_pixels(path.read_bytes(), str(path)), pil_loader(path))


def test_photographs_are_decoded_as_by_pil_to_the_bit(tmp_path):
    for path in photos(tmp_path, 20):
        assert np.array_equal(rgb_pixels(path.read_bytes(), str(path)), pil_loader(path))


def test_cmyk_is_not_inverted(tmp_path):
    Image.new("CMYK", (8, 8), (0, 200, 200, 0)).save(tmp_path / "red.jpg")
    red, green, blue = read_rgb(str(tmp_path / "red.jpg")).getpixel((4, 4))
    assert red > 230 and green < 80 and blue < 80


def png_of_colours(values: np.ndarray) -> bytes:
    """16-bit RGB, which PIL can read and not write."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    coded = (struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(coded)


@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "big_endian.tif", "grey.pgm", "colour.png"])
def test_16_bits_keep_their_high_byte(name, tmp_path):
    values = np.linspace(0, 65535, 1200).reshape(30, 40).astype(np.uint16)
    colours, path = np.stack([values, values[::-1], values // 2], axis=-1), tmp_path / name
    if name == "grey.pgm":
        path.write_bytes(b"P5\n40 30\n65535\n" + values.astype(">u2").tobytes())
    elif name == "colour.png":
        path.write_bytes(png_of_colours(colours))
    else:
        Image.fromarray(values.astype(">u2") if name == "big_endian.tif" else values).save(path)
    expected = colours if name == "colour.png" else np.stack([values] * 3, axis=-1)
    assert np.array_equal(read_rgb(str(path)), expected >> 8)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_greys_are_refused_rather_than_clipped(dtype, tmp_path):
    Image.fromarray(np.ones((8, 8), dtype)).save(tmp_path / "grey.tif")
    assert_refused(lambda: read_rgb(str(tmp_path / "grey.tif")), "grey.tif", "32-bit greys", "8 or 16 bits")


def test_one_pixel_becomes_a_flat_image_where_it_is_resized(tmp_path):
    Image.new("RGB", (1, 1), (10, 200, 30)).save(tmp_path / "dot.png")
    dot = FileSplit([str(tmp_path / "dot.png")], torch.tensor([0]))
    pixels, _ = next(iter(evaluate(dot, mean=[0.0] * 3, std=[1.0] * 3)))
    assert (pixels * 255).round()[0].flatten(1).unique(dim=1).flatten().tolist() == [10, 200, 30]
    assert_refused(lambda: list(evaluate(dot, resize_size=None)), "1 x 1", "dot.png", "data.resize_size=24")
    assert_refused(lambda: list(train(FileSplit(dot.paths * 6, torch.arange(6)), resize_size=None).epoch(0)), "1 x 1")

    root = tree(tmp_path / "set", "train/a/1.png", "train/b/1.png", "test/a/1.png")
    (tmp_path / "dot.png").rename(tmp_path / "set/train/a/2.png")
    assert_load_refused("folder", "train/a/2.png' is 1 x 1", "data.image_size", root=root, val_fraction=0.0)
    flat = load_data(config("folder", root=root, val_fraction=0.0, image_size=16)).train.images[1]
    assert flat.flatten(1).unique(dim=1).flatten().tolist() == [10, 200, 30]


PEAK_GROWTH_KIB = """
import re, sys
from efficientconv.data.decode import read_rgb, rgb_pixels
def peak():  # getrusage's would be that of the process which started this one, where that is higher
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
before = peak()
read_rgb(sys.argv[1])
print(peak() - before)
"""


def test_huge_images_are_read_in_bounded_memory_up_to_a_limit(tmp_path, recwarn):
    path, colour = str(tmp_path / "huge.jpg"), torch.tensor([10.0, 200.0, 30.0])
    Image.new("RGB", (12000, 9000), tuple(colour.int().tolist())).save(path)
    pixels, _ = next(iter(evaluate(FileSplit([path], torch.tensor([0])), mean=[0.0] * 3, std=[1.0] * 3)))
    torch.testing.assert_close(pixels[0, :, 0, 0] * 255, colour, rtol=0, atol=2)
    assert not recwarn.list
    call = [sys.executable, "-c", PEAK_GROWTH_KIB, path]
    growth_kib = int(subprocess.run(call, cwd=ROOT, capture_output=True, check=True).stdout)
    assert 0.8 < growth_kib / (4 * 12000 * 9000 / 2**10) < 1.3  # PIL holds a pixel in 4 bytes: one copy

    Image.new("1", (20000, 18000)).save(tmp_path / "bomb.png")
    assert_refused(lambda: read_rgb(str(tmp_path / "bomb.png")), "bomb.png", "360000000 pixels")


def test_a_large_image_is_copied_by_rows(tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)).save(path)
    monkeypatch.setattr("efficientconv.data.decode.COPIED_AT_ONCE", 500)
    assert np.array_equal(rgb_pixels(path.read_bytes(), str(path)), pil_loader(path))


def kill_this_process(paths: list[str]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_decoding_process_is_one_line():
    assert_refused(lambda: list(in_parallel(kill_this_process, ["a"])), "memory ran out", "fewer cores")


# ------------------------------------------------------------------------------------------------------------- long strips

PEAK_OF_A_STRIP = PEAK_GROWTH_KIB.replace("read_rgb(sys.argv[1])", """
import torch
from efficientconv.data.dataset import FileSplit
from efficientconv.data.resize import Resize
Resize(256, "shorter").apply(FileSplit([sys.argv[1]], torch.tensor([0])).pixels(0))
""")  # fmt: skip


@pytest.mark.parametrize("size", [(40_000, 3), (3, 40_000)], ids=str)
def test_a_long_strip_is_resized_in_bounded_memory(size, tmp_path):
    path = tmp_path / "strip.png"
    Image.new("RGB", size).save(path)
    call = [sys.executable, "-c", PEAK_OF_A_STRIP, path]
    growth_kib = int(subprocess.run(call, cwd=ROOT, capture_output=True, check=True).stdout)
    assert growth_kib < 400 * 2**10  # in proportion it was 5 GB
    item = Item("n01/strip.png", str(path), 0, None)
    _, height, width = encoded(item, Recipe(256, "shorter", "jpeg", 95))
    assert min(height, width) == 256 and 65_000 < max(height, width) <= 65_500  # JPEG holds no more


def test_the_centre_of_a_long_strip_is_what_it_would_be_without_a_bound(tmp_path):
    """4,001 x 3 pixels are within the bound, so the test sets a lower one, at which the middle 299 x 3 are left."""
    colours = np.random.default_rng(0).integers(0, 256, (3, 4001, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "strip.png")
    strip = FileSplit([str(tmp_path / "strip.png")], torch.tensor([0]))
    whole, _ = next(iter(evaluate(strip, resize_size=30, resize_rule="shorter")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("efficientconv.data.resize.LONGEST", 3010)
        middle, _ = next(iter(evaluate(strip, resize_size=30, resize_rule="shorter")))
    assert torch.equal(middle, whole)
