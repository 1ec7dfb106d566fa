"""Reading micrographs and volumes; whatever is wrong with a file is one clear line."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from mdiff_core import DataError, UsageError
from mdiff_images import parse_crop, parse_shape, read_array

LABELS = np.random.default_rng(0).integers(0, 3, (5, 7, 6)).astype(np.uint8)
NMC = Path(__file__).parents[3] / "shared" / "data" / "nmc" / "nmc-1-cal_generatedCBD_bridge.tif"

# Arrays that a reader may come across: an image and a volume, labels, 16-bit grey levels and floats.
ARRAYS = [LABELS, LABELS[0], LABELS.astype(np.uint16) * 20_000, LABELS.astype(np.float32) / 3]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.ndim}D-{a.dtype}")
@pytest.mark.parametrize("suffix", [".tif", ".TIFF", ".npy"])
def test_described_files_are_read_as_written(tmp_path: Path, array: np.ndarray, suffix: str):
    path = tmp_path / f"volume{suffix}"
    if suffix == ".npy":
        np.save(path, array)
    else:
        tifffile.imwrite(path, array)
    read = read_array(path)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.ndim}D-{a.dtype}")
def test_raw_files_are_read_in_array_order(tmp_path: Path, array: np.ndarray):
    path = tmp_path / "volume.raw"
    path.write_bytes(array.tobytes(order="C"))
    np.testing.assert_array_equal(read_array(path, raw_shape=array.shape, raw_dtype=str(array.dtype)), array)


def test_raw_files_hold_bytes_unless_said_otherwise(tmp_path: Path):
    path = tmp_path / "volume.raw"
    path.write_bytes(bytes([0, 1, 2, 127, 128, 255]))
    np.testing.assert_array_equal(read_array(path, raw_shape=(2, 3)), [[0, 1, 2], [127, 128, 255]])


def test_a_numpy_mask_is_read(tmp_path: Path):
    np.save(tmp_path / "mask.npy", LABELS[0] == 1)
    assert read_array(tmp_path / "mask.npy").dtype == np.bool_


def test_a_volume_of_one_slice_is_an_image(tmp_path: Path):
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.save(tmp_path / "slice.npy", image[None])
    np.testing.assert_array_equal(read_array(tmp_path / "slice.npy"), image)


@pytest.mark.parametrize("channels", [3, 4])
def test_equal_colour_channels_are_one_grey_image(tmp_path: Path, channels: int):
    grey = np.arange(80, dtype=np.uint8).reshape(8, 10)
    colour = np.stack([grey] * 3 + [np.full_like(grey, 255)] * (channels - 3), axis=-1)
    np.save(tmp_path / "sem.npy", colour)
    np.testing.assert_array_equal(read_array(tmp_path / "sem.npy"), grey)


@pytest.mark.parametrize("name", ["labels.png", "labels.PNG", "labels.bmp"])
@pytest.mark.parametrize("mode", ["L", "1"])
def test_pictures_without_loss_are_read_as_written(tmp_path: Path, name: str, mode: str):
    labels = LABELS[0] == 1 if mode == "1" else LABELS[0]
    Image.fromarray(labels).save(tmp_path / name)
    read = read_array(tmp_path / name)
    assert read.dtype == labels.dtype
    np.testing.assert_array_equal(read, labels)


def test_a_png_may_be_16_bit(tmp_path: Path):
    camera = np.random.default_rng(0).integers(0, 2**12, (8, 9)).astype(np.uint16)
    Image.fromarray(camera).save(tmp_path / "camera.png")
    np.testing.assert_array_equal(read_array(tmp_path / "camera.png"), camera)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG"])
def test_a_jpeg_is_read_but_for_its_loss(tmp_path: Path, suffix: str):
    y, x = np.indices((32, 40))
    grey = (100 + 60 * np.sin(x / 6) * np.cos(y / 9)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / f"sem{suffix}", quality=95)
    read = read_array(tmp_path / f"sem{suffix}")
    assert (read.shape, read.dtype) == ((32, 40), np.uint8)
    np.testing.assert_allclose(read.astype(int), grey, atol=4)


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA"])
def test_grey_pictures_are_grey_however_they_are_encoded(tmp_path: Path, mode: str):
    """A palette's indices are not its grey levels, and opacity is none."""
    grey = np.arange(80, dtype=np.uint8).reshape(8, 10) * 3
    if mode == "P":
        picture = Image.fromarray(255 - grey)
        picture.putpalette([255 - i // 3 for i in range(768)])
    else:
        picture = Image.fromarray(grey).convert(mode)
    assert picture.mode == mode
    picture.save(tmp_path / "sem.png")
    np.testing.assert_array_equal(read_array(tmp_path / "sem.png"), grey)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colour_becomes_its_luma_where_grey_levels_are_asked_for(tmp_path: Path, dtype: type):
    colour = np.random.default_rng(0).integers(0, 256, (8, 10, 3)).astype(dtype)
    np.save(tmp_path / "etched.npy", colour)
    with pytest.raises(DataError, match="a colour image; convert it to grey levels or labels first"):
        read_array(tmp_path / "etched.npy")
    read = read_array(tmp_path / "etched.npy", luminance=True)
    assert read.dtype == dtype
    red, green, blue = np.moveaxis(colour.astype(float), -1, 0)
    expected = 0.299 * red + 0.587 * green + 0.114 * blue
    np.testing.assert_allclose(read, expected, atol=1e-4 if dtype is np.float32 else 0.5)
    if dtype is np.uint8:  # an independent implementation, with integer weights
        np.testing.assert_allclose(read.astype(int), np.asarray(Image.fromarray(colour).convert("L")), atol=1)


def one_line(message: str, path: Path) -> bool:
    return message.startswith(f"{path}: ") and len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("absent.tif", None, "no such file"),
        ("picture.gif", b"GIF89a", r"cannot read \.gif: use one of \.tif, \.tiff, \.npy, \.raw, \.png, \.jpg"),
        ("picture", b"x", "cannot read a file without a suffix"),
        ("empty.tif", b"", "cannot be read as TIF"),
        ("text.tif", b"not a TIFF at all", "cannot be read as TIF"),
        ("empty.png", b"", "cannot be read as PNG"),
        ("short.png", b"\x89PNG\r\n\x1a\n", "cannot be read as PNG"),
        ("document.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n", "cannot be read as JPG"),
        ("empty.npy", b"", "cannot be read as NPY"),
        ("text.npy", b"not an NPY at all", "cannot be read as NPY"),
    ],
)
def test_files_of_another_kind_are_data_errors(tmp_path: Path, name: str, content: bytes | None, reason: str):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_array(path)
    assert one_line(str(caught.value), path)


def test_a_folder_is_no_file(tmp_path: Path):
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(DataError, match="no such file"):
        read_array(tmp_path / "folder.tif")


def test_an_archive_named_npy_is_a_data_error(tmp_path: Path):
    np.savez(tmp_path / "arrays.npz", a=LABELS)
    (tmp_path / "arrays.npz").rename(tmp_path / "arrays.npy")
    with pytest.raises(DataError, match="cannot be read as NPY"):
        read_array(tmp_path / "arrays.npy")


def test_pickled_objects_are_not_unpickled(tmp_path: Path):
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read as NPY"):
        read_array(tmp_path / "objects.npy")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_damaged_tiff_is_a_data_error_or_still_an_array(tmp_path: Path, compression: str | None):
    """The parser raises struct.error, zlib.error, IndexError and more on files cut off or scribbled on.

    The scribbles flip low bits of low bytes, so that no gigantic array is asked for.
    """
    whole = tmp_path / "whole.tif"
    tifffile.imwrite(whole, LABELS, compression=compression)
    content = whole.read_bytes()
    rng, refused = np.random.default_rng(1), 0
    variants = [content[:n] for n in range(0, len(content), 23)]
    for _ in range(60):
        damaged = bytearray(content)
        damaged[int(rng.integers(len(content) // 2)) & ~3] ^= int(rng.integers(1, 32))
        variants.append(bytes(damaged))
    for variant in variants:
        (tmp_path / "damaged.tif").write_bytes(variant)
        try:
            read_array(tmp_path / "damaged.tif")
        except DataError as error:
            assert one_line(str(error), tmp_path / "damaged.tif")
            refused += 1
    assert refused > len(variants) // 10


def test_a_truncated_png_is_a_data_error_wherever_it_ends(tmp_path: Path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20)).astype(np.uint8)).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    for end in range(0, len(content) - 16, 11):  # the last bytes mark the end and hold nothing
        (tmp_path / "cut.png").write_bytes(content[:end])
        with pytest.raises(DataError, match="cannot be read as PNG"):
            read_array(tmp_path / "cut.png")


def test_a_truncated_npy_is_a_data_error_wherever_it_ends(tmp_path: Path):
    np.save(tmp_path / "whole.npy", LABELS)
    content = (tmp_path / "whole.npy").read_bytes()
    for end in range(0, len(content), 7):
        (tmp_path / "cut.npy").write_bytes(content[:end])
        with pytest.raises(DataError, match="cannot be read as NPY"):
            read_array(tmp_path / "cut.npy")


def test_a_scribbled_npy_header_is_a_data_error(tmp_path: Path):
    np.save(tmp_path / "whole.npy", LABELS)
    content = (tmp_path / "whole.npy").read_bytes().replace(b"}", b" ")
    (tmp_path / "open.npy").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as NPY"):
        read_array(tmp_path / "open.npy")


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(4, dtype=np.uint8), "1 dimensions, expected an image"),
        (np.zeros((2, 2, 2, 2), dtype=np.uint8), "4 dimensions"),
        (np.zeros((2, 2), dtype=np.complex64), "holds complex64, expected numbers"),
        (np.zeros((2, 2), dtype="U3"), "holds <U3, expected numbers"),
        (np.zeros((0, 4), dtype=np.uint8), "holds no values"),
        (np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3), "a colour image"),
    ],
)
def test_arrays_that_are_no_micrograph_are_data_errors(tmp_path: Path, array: np.ndarray, reason: str):
    path = tmp_path / "array.npy"
    np.save(path, array)
    with pytest.raises(DataError, match=reason) as caught:
        read_array(path)
    assert one_line(str(caught.value), path)


def test_raw_needs_a_shape_and_a_known_type(tmp_path: Path):
    path = tmp_path / "volume.raw"
    path.write_bytes(bytes(12))
    with pytest.raises(UsageError, match="does not tell its shape"):
        read_array(path)
    with pytest.raises(UsageError, match="'uint7' is not a data type"):
        read_array(path, raw_shape=(3, 4), raw_dtype="uint7")


@pytest.mark.parametrize(("shape", "dtype", "needed"), [((3, 5), "uint8", 15), ((3, 4), "float32", 48)])
def test_raw_of_another_size_is_a_data_error(tmp_path: Path, shape: tuple[int, ...], dtype: str, needed: int):
    path = tmp_path / "volume.raw"
    path.write_bytes(bytes(12))
    with pytest.raises(DataError, match=rf"12 bytes, but .* of {dtype} needs {needed}"):
        read_array(path, raw_shape=shape, raw_dtype=dtype)


def test_shapes():
    assert parse_shape("300x64x32") == (300, 64, 32)
    assert parse_shape("7") == (7,)


@pytest.mark.parametrize("text", ["", "x", "300x", "3x-4", "3 x 4", "3.0x4", "0x4", "4x00", "axb"])
def test_shapes_of_another_form_are_usage_errors(text: str):
    with pytest.raises(UsageError, match="is not of the form 300x64x64"):
        parse_shape(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:5,0:7,0:6", LABELS),
        (":,:,:", LABELS),
        ("1:3,:4,2:", LABELS[1:3, :4, 2:]),
        (" 1:2 , 0:1, 5:6", LABELS[1:2, 0:1, 5:6]),
    ],
)
def test_crops_cut_the_named_part(text: str, expected: np.ndarray):
    np.testing.assert_array_equal(LABELS[parse_crop(text, LABELS.shape)], expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0:5,0:7", "names 2 axes, the array has 3"),
        ("0:5,0:7,0:6,0:1", "names 4 axes"),
        ("0:5,0:7,6", "'6' is not START:STOP"),
        ("0:5,0:7,0:6:2", "is not START:STOP"),
        ("0:5,0:7,-2:6", "is not START:STOP"),
        ("0:5,0:7,0:9", "does not lie within 0:6"),
        ("0:5,0:7,4:4", "does not lie within 0:6"),
        ("0:5,0:7,4:2", "does not lie within 0:6"),
    ],
)
def test_crops_outside_the_array_are_usage_errors(text: str, reason: str):
    with pytest.raises(UsageError, match=reason):
        parse_crop(text, LABELS.shape)


@pytest.mark.skipif(not NMC.is_file(), reason="the NMC cathode (shared/data/nmc beside the repository) is not here")
def test_a_real_tomogram_has_the_phase_fractions_its_source_states():
    volume = read_array(NMC)
    assert volume.shape == (251, 301, 301)
    fractions = [np.mean(volume == label) for label in (0, 1, 2)]
    np.testing.assert_allclose(fractions, [0.4005, 0.4995, 0.100], atol=5e-4)
