"""Small files with generated headers, and what nibabel, pydicom, tifffile and SimpleITK read of them.

    python generated.py SEED COUNT      prints COUNT files of each format as JSON, a line each

`data/golden/medio/generated.jsonl` is `generated.py 1 16`, made with nibabel 5.4, pydicom 3.0, tifffile 2026.3, imagecodecs 2026 and
SimpleITK 2.5. A file is given as hexadecimal digits; `values` are those of the array in 32 bits, slices first.
"""

import gzip
import json
import pathlib
import struct
import sys
import tempfile
import warnings
import zlib

import imagecodecs
import nibabel
import numpy as np
import pydicom
import SimpleITK
import tifffile
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

warnings.filterwarnings("ignore")
nibabel.imageglobals.logger.setLevel("CRITICAL")

CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}


def integers(rng, kind, shape):
    if kind[0] == "f":
        return rng.normal(0, 100, shape).round(3).astype(kind)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    return rng.integers(max(low, -(2**40)), min(high, 2**40), shape, endpoint=True).astype(kind)


def affine(rng):
    """Axes in any order and direction, somewhat rotated."""
    order = rng.permutation(3)
    signs = rng.choice([-1.0, 1.0], 3)
    matrix = np.zeros((3, 3))
    matrix[order, range(3)] = signs * rng.uniform(0.4, 4, 3)
    turn = nibabel.eulerangles.euler2mat(*rng.uniform(-0.3, 0.3, 3))
    return np.c_[turn @ matrix, rng.uniform(-90, 90, 3)].round(4)


def nifti(rng, folder):
    kind, order, version, pair = rng.choice(list(CODES)), rng.choice(["<", ">"]), rng.choice([1, 2]), rng.random() < 0.25
    shape = [int(n) for n in rng.integers(1, 6, rng.integers(2, 4))]
    shape = shape if rng.random() < 0.8 else [*(shape + [2])[:3], 1]
    data = integers(rng, kind, shape).astype(order + kind)
    slope, intercept = rng.choice([0.0, 1.0, 0.5, -2.25, np.nan]), rng.choice([0.0, 3.5, -1024.0])
    codes = rng.integers(0, 2, 2)
    quaternion = rng.normal(0, 1, 4)
    quaternion *= np.sign(quaternion[0]) / np.linalg.norm(quaternion)
    pixdim = [rng.choice([-1.0, 1.0, 0.0]), *rng.uniform(0.4, 4, 3) * rng.choice([1, 1, 1, -1], 3), 1, 0, 0, 0]
    if rng.random() < 0.1:
        pixdim[rng.integers(1, 4)] = 0.0
    position, sform = rng.uniform(-90, 90, 3), affine(rng)
    dim = [len(shape), *shape, *[1] * (7 - len(shape))]
    units, bits = rng.choice([0, 2, 10]), 8 * data.dtype.itemsize
    if version == 1:
        offset = 0 if pair else 352
        head = struct.pack(order + "i34xc", 348, b"r") + struct.pack(order + "b8h", 0, *dim)
        head += struct.pack(order + "3f4h", 0, 0, 0, 0, CODES[kind], bits, 0) + struct.pack(order + "8f", *pixdim)
        head += struct.pack(order + "3f", offset, slope, intercept) + struct.pack(order + "hbb", 0, 0, units)
        head += struct.pack(order + "4f2i", 0, 0, 0, 0, 0, 0) + bytes(104) + struct.pack(order + "2h", *codes)
        head += struct.pack(order + "6f", *quaternion[1:], *position) + struct.pack(order + "12f", *sform.ravel()) + bytes(16)
        head += b"ni1\0" if pair else b"n+1\0"
        assert len(head) == 348
    else:
        offset = 0 if pair else 544
        head = struct.pack(order + "i", 540) + (b"ni2\0" if pair else b"n+2\0") + b"\r\n\x1a\n"
        head += struct.pack(order + "2h", CODES[kind], bits) + struct.pack(order + "8q", *dim) + bytes(24)
        head += struct.pack(order + "8d", *pixdim) + struct.pack(order + "q2d", offset, slope, intercept) + bytes(32 + 16 + 104)
        head += struct.pack(order + "2i", *codes) + struct.pack(order + "6d", *quaternion[1:], *position)
        head += struct.pack(order + "12d", *sform.ravel()) + struct.pack(order + "3i", 0, units, 0) + bytes(16 + 1 + 15)
        assert len(head) == 540
    raw = data.tobytes(order="F")
    packed = rng.random() < 0.3
    if pair:
        files = {"v.hdr": head, "v.img": raw}
    else:
        files = {"v.nii.gz" if packed else "v.nii": gzip.compress(head + bytes(4) + raw, mtime=0) if packed else head + bytes(4) + raw}
    write(folder, files)
    image = nibabel.load(folder / next(iter(files)))
    values = image.get_fdata(dtype=np.float64)
    values = values.reshape((values.shape + (1,))[:3])
    return files, values.T, image.affine[:3]


def itk(rng, folder):
    ending = rng.choice(["nrrd", "nhdr", "mha", "mhd"])
    kind = rng.choice(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
    shape = tuple(rng.integers(1, 6, 3))
    image = SimpleITK.GetImageFromArray(integers(rng, kind, shape))
    turn = affine(rng)[:, :3]
    turn = np.linalg.qr(turn)[0] @ np.diag(rng.choice([-1.0, 1.0], 3))
    image.SetDirection(turn.ravel().tolist())
    image.SetSpacing(rng.uniform(0.4, 4, 3).tolist())
    image.SetOrigin(rng.uniform(-90, 90, 3).tolist())
    SimpleITK.WriteImage(image, str(folder / f"v.{ending}"), useCompression=bool(rng.random() < 0.5))
    read = SimpleITK.ReadImage(str(folder / f"v.{ending}"))
    steps = np.array(read.GetDirection()).reshape(3, 3) @ np.diag(read.GetSpacing())
    lps = np.c_[steps, read.GetOrigin()]
    names = sorted(p.name for p in folder.iterdir())
    files = {name: (folder / name).read_bytes() for name in sorted(names, key=lambda n: n != f"v.{ending}")}
    return files, SimpleITK.GetArrayFromImage(read), np.diag([-1, -1, 1]) @ lps


def dicom(rng, folder):
    allocated = int(rng.choice([8, 16, 16, 16, 32]))
    stored = allocated if rng.random() < 0.4 else int(rng.integers(allocated // 2 + 1, allocated + 1))
    signed = bool(rng.random() < 0.5)
    syntaxes = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
    syntaxes += [RLELossless] if allocated < 32 else []
    syntaxes += [ExplicitVRBigEndian, JPEGLSLossless, JPEG2000Lossless] if allocated == 16 else []
    syntaxes += [JPEGLosslessSV1] if allocated == 16 else []
    syntax = syntaxes[rng.integers(len(syntaxes))]
    if syntax == JPEGLSLossless and signed:
        # Of fewer bits, pydicom 3.0 reads negative numbers as positive ones.
        stored = allocated
    rows, columns = int(rng.integers(4, 9)), 2 * int(rng.integers(2, 5))
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1)) if signed else (0, 2**stored)
    values = rng.integers(low, high, (rows, columns))
    words = values & (2**stored - 1)
    plain = syntax in (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
    if plain and stored < allocated:
        # What stands in the bits that are not stored: an overlay, or the sign.
        words |= rng.integers(0, 2 ** (allocated - stored), (rows, columns)) << stored
    words = words.astype(f"<u{allocated // 8}")
    d = Dataset()
    d.SOPClassUID, d.SOPInstanceUID, d.SeriesInstanceUID = CTImageStorage, "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
    d.ImageOrientationPatient, d.ImagePositionPatient, d.PixelSpacing = [1, 0, 0, 0, 1, 0], [1, 2, 3], [0.5, 0.75]
    d.Rows, d.Columns, d.SamplesPerPixel = rows, columns, 1
    d.PhotometricInterpretation = str(rng.choice(["MONOCHROME1", "MONOCHROME2"]))
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = allocated, stored, stored - 1, int(signed)
    if rng.random() < 0.7:
        d.RescaleSlope, d.RescaleIntercept = str(rng.choice(["1", "2", "0.25"])), str(rng.choice(["0", "-1024", "7.5"]))
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID, d.file_meta.MediaStorageSOPClassUID = syntax, CTImageStorage
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID
    streams = {
        JPEGLSLossless: lambda: imagecodecs.jpegls_encode(words),
        JPEG2000Lossless: lambda: imagecodecs.jpeg2k_encode(
            values.astype("i2") if signed else words, level=0, codecformat="j2k", bitspersample=stored
        ),
        JPEGLosslessSV1: lambda: imagecodecs.ljpeg_encode(words, bitspersample=max(stored, 9)),
    }
    if syntax in streams:
        d.PixelData = encapsulate([streams[syntax]()])
        d["PixelData"].is_undefined_length, d["PixelData"].VR = True, "OB"
    else:
        data = words.astype(words.dtype.newbyteorder(">")) if syntax == ExplicitVRBigEndian else words
        d.PixelData = data.tobytes()
        d["PixelData"].VR = "OB" if allocated == 8 and syntax != ImplicitVRLittleEndian else "OW"
    if syntax == RLELossless:
        d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d.compress(RLELossless)
    out = Dataset()
    out.update(d)
    out.file_meta = d.file_meta
    implicit = syntax == ImplicitVRLittleEndian
    out.save_as(folder / "v.dcm", enforce_file_format=True, implicit_vr=implicit, little_endian=syntax != ExplicitVRBigEndian)
    read = pydicom.dcmread(folder / "v.dcm")
    found = read.pixel_array * float(read.get("RescaleSlope", 1)) + float(read.get("RescaleIntercept", 0))
    assert (read.pixel_array == values).all(), (syntax, stored, signed)
    return {"v.dcm": (folder / "v.dcm").read_bytes()}, found, None


def labels_tiff(rng, folder):
    kind = rng.choice(["bool", "u1", "u2", "u4", "i2", "i4", "f4"])
    shape = (int(rng.integers(3, 20)), int(rng.integers(3, 20)))
    stack = rng.random() < 0.3 and kind != "bool"
    if stack:
        shape = (int(rng.integers(2, 5)), *shape)
    data = rng.integers(0, 2 if kind == "bool" else 100, shape).astype(kind)
    options = {"photometric": str(rng.choice(["minisblack", "miniswhite"])), "bigtiff": bool(rng.random() < 0.3)}
    options["byteorder"] = str(rng.choice(["<", ">"]))
    options["photometric"] = "minisblack" if kind in ("i2", "i4", "f4") else options["photometric"]
    options["compression"] = None if kind == "bool" else rng.choice([None, "lzw", "zlib", "packbits"])
    if options["compression"] in ("lzw", "zlib") and kind in ("u1", "u2") and rng.random() < 0.5:
        options["predictor"] = True
    # The decoder does not read LZW in tiles of 16 pixels; it refuses them.
    if kind != "bool" and options["compression"] != "lzw" and rng.random() < 0.3:
        options["tile"] = (16, 16)
    if stack and rng.random() < 0.5 and kind in ("u1", "u2", "f4") and options["photometric"] == "minisblack" and not options["bigtiff"]:
        options |= {"imagej": True, "metadata": {"axes": "ZYX"}, "byteorder": ">"}
        options.pop("tile", None)
    elif stack and rng.random() < 0.5:
        options |= {"ome": True, "metadata": {"axes": "ZYX"}}
    if rng.random() < 0.3:
        options["extratags"] = [(274, 3, 1, int(rng.integers(2, 9)), True)]
    tifffile.imwrite(folder / "v.tif", data, **options)
    found = tifffile.imread(folder / "v.tif")
    return {"v.tif": (folder / "v.tif").read_bytes()}, found.astype(float), None


def rgb_tiff(rng, folder):
    shape = (int(rng.integers(4, 20)), int(rng.integers(4, 20)), 3)
    kind = rng.choice(["u1", "u2"])
    data = rng.integers(0, 256, shape).astype("u1")
    data = data if kind == "u1" else data.astype("u2") * 257
    options = {"photometric": "rgb", "bigtiff": bool(rng.random() < 0.3), "byteorder": str(rng.choice(["<", ">"]))}
    options["compression"] = rng.choice([None, "lzw", "zlib", "packbits"])
    if rng.random() < 0.4:
        options["planarconfig"] = "separate"
        data = np.ascontiguousarray(data.transpose(2, 0, 1))
    elif options["compression"] != "lzw" and rng.random() < 0.4:
        options["tile"] = (16, 16)
    if "planarconfig" not in options and rng.random() < 0.3:
        options |= {"ome": True, "metadata": {"axes": "YXS"}}
    tifffile.imwrite(folder / "v.tif", data, **options)
    found = tifffile.imread(folder / "v.tif").astype(float)
    found = found if "planarconfig" in options else found.transpose(2, 0, 1)
    return {"v.tif": (folder / "v.tif").read_bytes()}, found / (1 if kind == "u1" else 257), None


def labels_png(rng, folder):
    bits = int(rng.choice([1, 2, 4, 8, 16]))
    palette = bits < 16 and rng.random() < 0.4
    rows, columns = (int(n) for n in rng.integers(1, 20, 2))
    data = rng.integers(0, 2**bits, (rows, columns))
    per_row = [np.unpackbits(row.astype(">u2").view("u1").reshape(-1, 2), axis=1)[:, 16 - bits :].ravel() for row in data]
    lines = b"".join(b"\0" + np.packbits(row).tobytes() for row in per_row)
    chunk = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    header = struct.pack(">2I5B", columns, rows, bits, 3 if palette else 0, 0, 0, 0)
    colours = chunk(b"PLTE", rng.integers(0, 256, 3 * 2**bits).astype("u1").tobytes()) if palette else b""
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + colours + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return {"v.png": file}, data.astype(float), None


def write(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)


KINDS = {f.__name__: f for f in (nifti, itk, dicom, labels_tiff, rgb_tiff, labels_png)}

if __name__ == "__main__":
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    for n, (kind, make) in enumerate(KINDS.items()):
        rng = np.random.default_rng([seed, n])
        for _ in range(count):
            with tempfile.TemporaryDirectory() as folder:
                files, values, matrix = make(rng, pathlib.Path(folder))
            found = {"kind": kind, "files": {name: content.hex() for name, content in files.items()}}
            found |= {"shape": list(values.shape), "values": np.asarray(values, float).astype("f4").ravel().tolist()}
            print(json.dumps(found | ({} if matrix is None else {"affine": np.asarray(matrix).tolist()})))
