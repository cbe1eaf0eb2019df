"""Oxford-IIIT Pet: photographs of cats and dogs, each pixel pet, background or border.

3,680 photographs in trainval.txt and 3,669 in test.txt, of 37 breeds (Parkhi et al., 2012). Of
trainval.txt every fifth line validates, so that each breed does:

    train 2,944    validate 736    test 3,669

A trimap has 1 for the pet, 2 for the background and 3 for the border between them; here they are
the classes 0, 1 and 2. Photographs have any size, and some are no JPEGs, though they are called so.
All are made squares once, without regard to their proportions, and kept in the cache; of trimaps
each pixel is the nearest one's.

Sreedhar and Jain (KTH, a student report on Bop, section 4.5) train U-Nets on it; they state neither
the size nor the preprocessing.

source: Parkhi, Vedaldi, Zisserman and Jawahar (2012), Cats and dogs; the layout from
    https://www.robots.ox.ac.uk/~vgg/data/pets/
departs from it: the publishers leave it open what validates
"""

from __future__ import annotations

import json
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le

from bnnbench.archives import Archive
from bnnbench.downloads import Source, again, checksum_of, downloads, folder, member_of
from bnnbench.errors import DataError
from bnnbench.interfaces import Dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from bnnbench_plugins.cache import Draft

Preprocessing = Literal["signed", "unit", "standardized"]
Augment = Literal["none", "flip"]
Names = dict[str, list[str]]  #: of the photographs, by split

VERSION = 1  #: to be raised when the same files come to be unpacked otherwise
CLASSES = 3
COUNTS = {"trainval": 3_680, "test": 3_669}
FIFTH = 5  #: of trainval.txt, each so manieth line validates
LISTS = {name: f"annotations/{name}.txt" for name in COUNTS}
WITHOUT = ", or set incomplete = true to go without"
WITHOUT_LISTS = ", or remove both lists to go without them"
LINE = re.compile(r"(\w+) \d+ [12] \d+")  #: name, breed, cat or dog, breed among those

SOURCE = Source(
    name="oxford-iiit-pet",
    urls=(
        "https://www.robots.ox.ac.uk/~vgg/data/pets/data/",
        "https://thor.robots.ox.ac.uk/datasets/pets/",
    ),
    files={},
    size_bytes=811_092_049,
    citation="Parkhi, Vedaldi, Zisserman and Jawahar, Cats and dogs, 2012",
    archives={
        "images.tar.gz": Archive(
            md5="5c4f3ee8e5d25df40f4fd59a7f44e54c",
            members=("images/*.jpg",),
            limit_bytes=1_000_000_000,
        ),
        "annotations.tar.gz": Archive(
            md5="95a8c909bbe2e81eed6a22bccdf3f68f",
            members=(*LISTS.values(), "annotations/trimaps/*.png"),
            limit_bytes=200_000_000,
        ),
    },
)


@downloads(SOURCE)
def oxford_iiit_pet(
    *,
    size: Annotated[int, Ge(16), Le(512)] = 128,
    preprocessing: Preprocessing = "signed",
    augmentation: Augment = "none",
    train: Annotated[int, Ge(1), Le(2_944)] = 2_944,
    incomplete: bool = False,
) -> Dataset:
    """Return the pets: inputs float32 (n, 3, size, size), targets int64 (n, size, size).

    Args:
        size: the side of the squares, in pixels.
        preprocessing: "signed" is x/127.5 - 1, "unit" x/255, "standardized" each channel less its
            mean, by its deviation, over the training images.
        augmentation: of the training images: "flip" mirrors half of them, with their trimaps.
        train: the first so many of the training images, which lie shuffled, for short studies.
        incomplete: take a folder that lacks some photographs, too; if it lacks the lists, every
            fifth name tests, and every fifth of the others validates. The data set's remark says
            how many there are.

    Raises:
        DataError: a file is missing or damaged, or the cache cannot be written.
    """
    from bnnbench_plugins.datasets.images import Images
    from bnnbench_plugins.datasets.splits import dataset, remark

    names = _names(incomplete)
    key = _key(names, size)
    arrays = _unpacked(names, size, key)
    counts = {name: len(chosen) for name, chosen in names.items()} | {"train": train}
    return dataset(
        {name: Images([arrays[f"{name}-images"][:n]]) for name, n in counts.items()},
        {name: arrays[f"{name}-trimaps"][:n] for name, n in counts.items()},
        {**key, "train": train},
        preprocessing,
        augmentation,
        classes=CLASSES,
        task="segmentation",
        remark=remark(_lacking(names), train=train, known=len(names["train"])),
    )


def _names(incomplete: bool) -> Names:
    """The names of each split's photographs, in its order."""
    import numpy as np

    known, test = _listed(incomplete) if not incomplete or _has_lists() else _found()
    if incomplete:
        there = set(_there())
        known, test = [n for n in known if n in there], [n for n in test if n in there]
    held = known[FIFTH - 1 :: FIFTH]
    rest = [name for name in known if name not in {*held}]
    order = np.random.RandomState(0).permutation(len(rest)).tolist()
    names = {"train": [rest[i] for i in order], "validation": held, "test": test}
    if not all(names.values()):
        raise DataError(
            f"{folder(SOURCE)} must have photographs with trimaps to train, to validate and to"
            f" test, got {len(known) + len(test)}; remove its images and annotations, and run:"
            f" bnnbench data fetch {SOURCE.name}"
        )
    return names


def _listed(incomplete: bool) -> tuple[list[str], list[str]]:
    """The names in the publishers' two lists."""
    known, test = (_read_list(name, incomplete) for name in COUNTS)
    both = sorted({*known} & {*test})
    if both:
        raise DataError(
            f"{folder(SOURCE) / LISTS['test']} must have no name of trainval.txt, got {both[0]};"
            f" {again(SOURCE, LISTS['test'])}"
        )
    return known, test


def _read_list(name: str, incomplete: bool) -> list[str]:
    path = member_of(SOURCE, LISTS[name], WITHOUT_LISTS if incomplete else WITHOUT)
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    found = [LINE.fullmatch(line.strip()) for line in lines]
    names = [line[1] for line in found if line]
    if len(names) != len(lines) or len({*names}) != COUNTS[name]:
        raise DataError(
            f"{path} must have {COUNTS[name]:,} lines of a name and three numbers, got"
            f" {len({*names}):,} of {len(lines):,}; {again(SOURCE, LISTS[name])}"
        )
    return names


def _has_lists() -> bool:
    return any((folder(SOURCE) / path).exists() for path in LISTS.values())


def _found() -> tuple[list[str], list[str]]:
    """The names of what is there, in place of the lists: every fifth tests."""
    names = sorted(_there())
    return [n for i, n in enumerate(names, 1) if i % FIFTH], names[FIFTH - 1 :: FIFTH]


def _there() -> set[str]:
    """The names of the photographs that have a trimap."""
    root = folder(SOURCE)
    trimaps = {path.stem for path in (root / "annotations" / "trimaps").glob("*.png")}
    names = {path.stem for path in (root / "images").glob("*.jpg")} & trimaps
    return {name for name in names if re.fullmatch(r"\w+", name)}


def _key(names: Names, size: int) -> dict[str, Any]:
    """What the arrays are: every file's checksum, in its place."""
    files = {
        split: [(name, *(checksum_of(SOURCE, file) for file in _files(name))) for name in chosen]
        for split, chosen in names.items()
    }
    return {"pets": sha256(json.dumps(files).encode()).hexdigest(), "size": size}


def _files(name: str) -> tuple[str, str]:
    return f"images/{name}.jpg", f"annotations/trimaps/{name}.png"


def _unpacked(names: Names, size: int, key: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Each split's "images" and "trimaps", made once, then kept."""
    from bnnbench_plugins.cache import kept

    identity = {"unpacked": key, "version": VERSION}
    pixels = sum(map(len, names.values())) * size**2  # three bytes, and a class in eight
    return kept(identity, 11 * pixels, lambda draft: _unpack(names, size, draft)).arrays


def _unpack(names: Names, size: int, draft: Draft) -> None:
    """Write each split's images (n, 3, size, size) and trimaps (n, size, size), less one."""
    import numpy as np

    for split, chosen in names.items():
        n = len(chosen)
        images, trimaps = _each(_image, chosen, size), _each(_trimap, chosen, size)
        draft.write(f"{split}-images", images, (n, 3, size, size), np.uint8)
        draft.write(f"{split}-trimaps", trimaps, (n, size, size), np.int64)


def _each(
    read: Callable[[str, int], NDArray[np.uint8]], names: list[str], size: int
) -> Iterator[NDArray[np.uint8]]:
    """What is read for each name, in order, by as many threads as there are processors."""
    from concurrent.futures import ThreadPoolExecutor

    from bnnbench_plugins.datasets.stream import ahead, threads

    with ThreadPoolExecutor(threads()) as pool:
        begun = (pool.submit(read, name, size) for name in names)
        for future in ahead(begun, 4 * threads()):
            yield future.result()


def _image(name: str, size: int) -> NDArray[np.uint8]:
    from bnnbench_plugins.datasets.photographs import read_photograph, square

    photograph = read_photograph(member_of(SOURCE, _files(name)[0], WITHOUT))
    return square(photograph, photograph.whole, size).transpose(2, 0, 1)


def _trimap(name: str, size: int) -> NDArray[np.uint8]:
    from bnnbench_plugins.datasets.photographs import nearest

    path = member_of(SOURCE, _files(name)[1], WITHOUT)
    _check_size(name)
    trimap = nearest(path, size)
    if trimap.min() < 1 or trimap.max() > CLASSES:
        raise DataError(
            f"{path} must have pixels from 1 to {CLASSES}, got {trimap.min()} to {trimap.max()};"
            f" {again(SOURCE, _files(name)[1])}"
        )
    return trimap - 1


def _check_size(name: str) -> None:
    """Refuse a trimap that was cut or resized: its pixels would be laid over others."""
    from bnnbench_plugins.datasets.photographs import extent

    photograph, trimap = (extent(folder(SOURCE) / file) for file in _files(name))
    if trimap != photograph:
        height, width = trimap
        raise DataError(
            f"a trimap must have its photo's size, got {width} x {height} instead of"
            f" {photograph[1]} x {photograph[0]} for {name}; {again(SOURCE, _files(name)[1])}"
        )


def _lacking(names: Names) -> str:
    found, published = sum(map(len, names.values())), sum(COUNTS.values())
    return "" if found == published else f"{found:,} of {published:,} images"
