"""Archives of images as they arrive: damaged, compressed, hostile, or made by a tool with ideas of its own."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile

import pytest

from efficientconv.data.image_files import PassedOver
from efficientconv.preparation.source import find_source
from efficientconv.preparation.tar import images_in_archive
from test_data_helpers import assert_refused, tree

IMAGES = {"a.JPEG": b"first", "b.JPEG": b"second" * 200}
LONG_NAME = b"L"  # the type of a header that holds the next one's name


def member(name: str, content: bytes = b"", **fields: object) -> bytes:
    """A header and its content, in whole blocks."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def tar(*members: bytes) -> bytes:
    return b"".join(members) + bytes(1024)


def images(**contents: bytes) -> bytes:
    return tar(*(member(name, content) for name, content in (contents or IMAGES).items()))


CLASS = member("n01.tar", images())


def nested(depth: int) -> bytes:
    archive = images()
    for _ in range(depth - 1):
        archive = tar(member("n01.tar", archive))
    return archive


def flipped(archive: bytes, place: int) -> bytes:
    return archive[:place] + bytes([archive[place] ^ 1]) + archive[place + 1 :]


# What is the train archive, and what the one line says.
REFUSED = {
    "1,200 archives in one another": (nested(1200), ["more than 4 archives lie in one another"]),
    "gzip": (gzip.compress(tar(CLASS)), ["train.tar' is compressed", "decompress it"]),
    "bzip2": (bz2.compress(tar(CLASS)), ["train.tar' is compressed"]),
    "xz": (lzma.compress(tar(CLASS)), ["train.tar' is compressed"]),
    "gzip in it": (tar(CLASS, member("n02.tar", gzip.compress(images()))), ["in it 'n02.tar' is compressed"]),
    "one name twice": (tar(member("n01.tar", images()[:-1024] + images())), ["same name: 'n01/a.JPEG', 'n01/b.JPEG'"]),
    "one class twice": (tar(CLASS, CLASS), ["same name: 'n01/a.JPEG', 'n01/b.JPEG'"]),
    "one name in two folders": (
        tar(member("n01.tar", tar(member("x/a.JPEG"), member("y/a.JPEG")))), ["same name: 'n01/a.JPEG'"]
    ),
    "empty file": (b"", ["train.tar' is damaged"]),
    "empty file in it": (tar(CLASS, member("n02.tar")), ["in it 'n02.tar' is damaged"]),
    "web page": (b"<html>404 Not Found</html>" * 100, ["train.tar' is damaged"]),
    "web page in it": (tar(CLASS, member("n02.tar", b"<html>404 Not Found</html>" * 100)), ["in it 'n02.tar' is damaged"]),
    "zeros": (bytes(10240), ["no images in"]),
    "no image": (tar(member("n01.tar", tar(member("a.txt", b"text")))), ["no images in", "1 file passed over: .txt 1"]),
    "bit flipped in the second header": (tar(CLASS, flipped(member("n02.tar", images()), 3)), ["train.tar' is damaged"]),
    "bit flipped in a header in it": (
        tar(member("n01.tar", tar(member("a.JPEG"), flipped(member("b.JPEG"), 3)))), ["in it 'n01.tar' is damaged"]
    ),
    "cut in a header": ((tar(CLASS, CLASS))[: len(CLASS) + 100], ["train.tar' is damaged"]),
    "cut in an image": (tar(CLASS)[:2000], ["train.tar' is damaged"]),
    "an image of 8 exabytes": (tar(CLASS, member("c.JPEG", size=2**63 - 1)), ["train.tar' is damaged"]),
    "an image of negative size": (tar(CLASS, member("c.JPEG", size=-512)), ["train.tar' is damaged"]),
    "a name of 4 exabytes": (tar(CLASS, member("c.JPEG", type=LONG_NAME, size=2**62)), ["train.tar' is damaged"]),
    "a name of negative size": (tar(CLASS, member("c.JPEG", type=LONG_NAME, size=-512)), ["train.tar' is damaged"]),
    "another size for all": (
        tar(member("pax", b"14 size=99999\n", type=tarfile.XGLTYPE), CLASS), ["train.tar' is damaged"]
    ),
    "2,000 headers for one image": (tar(member("x", b"name\0", type=LONG_NAME) * 2000, member("c.JPEG")), ["damaged"]),
    "holes": (tar(member("n01.tar", tar(member("a.JPEG", b"data", type=tarfile.GNUTYPE_SPARSE)))), ["holes", "'a.JPEG'"]),
    "two joined by cat": (tar(CLASS) + tar(member("n02.tar", images())), ["train.tar' is damaged", "lies behind its end"]),
    "two joined by cat in it": (
        tar(member("n01.tar", images() + images(**{"c.JPEG": b"third"}))), ["in it 'n01.tar' is damaged", "behind its end"]
    ),
    "another joined to it behind a megabyte of nothing": (tar(CLASS) + bytes(2**20) + tar(CLASS), ["behind its end"]),
    "image in no class": (tar(CLASS, member("c.JPEG", b"third")), ["in no class, 'c.JPEG' first"]),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_an_archive_that_cannot_be_taken_at_its_word_is_refused(what, tmp_path):
    archive, parts = REFUSED[what]
    (tmp_path / "ILSVRC2012_img_train.tar").write_bytes(archive)
    tree(tmp_path, "val/n01/1.png")
    assert_refused(lambda: find_source(tmp_path, None, True), *parts)


# What lies in the archive beside the two images of class n01, and what is said of it.
ADDED = {
    "nothing": (b"", {}),
    "macOS's copy of an archive's attributes": (member("._n01.tar", b"\0\5\x16\7"), {"hidden": 1}),
    "macOS's copy of images' attributes": (member("n02.tar", tar(member("._a.JPEG", b"\0\5\x16\7"))), {"hidden": 1}),
    "macOS's folder of copies": (member("__MACOSX/n01/a.JPEG"), {"in __MACOSX": 1}),
    "other files": (member("readme.txt") + member("n03.tar.gz") + member("x"), {".txt": 1, ".gz": 1, "no extension": 1}),
    "blocks of nothing behind its end": (b"", {}),
    "folders": (member("./", type=tarfile.DIRTYPE) + member(".git/", type=tarfile.DIRTYPE), {}),
    "links": (
        member("c.JPEG", type=tarfile.SYMTYPE, linkname="a.JPEG") + member("d.JPEG", type=tarfile.LNKTYPE, linkname="none"),
        {"link": 2},
    ),
    "pipe and device": (
        member("c.JPEG", type=tarfile.FIFOTYPE) + member("d.JPEG", type=tarfile.CHRTYPE), {"pipe, socket or device": 2}
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ADDED)
def test_what_is_no_image_is_passed_over_and_counted(what, tmp_path):
    added, counts = ADDED[what]
    (tmp_path / "train.tar").write_bytes(tar(added, CLASS) + bytes(10_240 * ("behind" in what)))
    passed_over = PassedOver()
    found = images_in_archive(tmp_path / "train.tar", passed_over)
    content = (tmp_path / "train.tar").read_bytes()
    stored = {image.name: content[image.offset : image.offset + image.size] for image in found}
    assert stored == {f"n01/{name}": image for name, image in IMAGES.items()} and dict(passed_over) == counts


def test_a_hard_link_is_the_image_that_it_links_to(tmp_path):
    """tar stores a file with two names once."""
    (tmp_path / "a.JPEG").write_bytes(b"first")
    (tmp_path / "b.JPEG").hardlink_to(tmp_path / "a.JPEG")
    with tarfile.open(tmp_path / "val.tar", "w") as archive:
        archive.add(tmp_path / "a.JPEG", "a.JPEG")
        archive.add(tmp_path / "b.JPEG", "b.JPEG")
    found, content = images_in_archive(tmp_path / "val.tar", PassedOver()), (tmp_path / "val.tar").read_bytes()
    assert [(image.name, content[image.offset : image.offset + image.size]) for image in found] == [
        ("a.JPEG", b"first"), ("b.JPEG", b"first"),
    ]  # fmt: skip


def test_an_archive_that_cannot_be_read_is_refused(tmp_path):
    assert_refused(lambda: images_in_archive(tmp_path, PassedOver()), str(tmp_path), "Is a directory")
