"""What nibabel, pydicom, highdicom, scikit-image, Pillow and tifffile read, for comparison.

    python references.py golden FOLDER      writes small files of every kind and expected.json
    python references.py real [FOLDER]      prints what they read of the files that nilearn and pydicom ship, and of FOLDER's .nii.gz

The golden files were made with nibabel 5.4.2, pydicom 3.0.2, highdicom 0.28.2, scikit-image 0.26.0, and Pillow, tifffile, imagecodecs
and pylibjpeg of the same month (November 2026).
"""

import hashlib
import json
import pathlib
import sys

import nibabel
import numpy as np
import pydicom

SLICES = ["693_J2KI.dcm", "CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm"]
SLICES += ["MR_small_implicit.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_padded.dcm", "examples_overlay.dcm"]
TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]


def volume(values, affine, **more):
    """Arrays in the order [slices, rows, columns]."""
    values = np.ascontiguousarray(np.asarray(values).T)
    return {"shape": list(values.shape), "affine": np.asarray(affine)[:3].tolist(), "values": values.astype(float).ravel().tolist(), **more}


def of_nibabel(path):
    image = nibabel.load(path)
    canonical = nibabel.as_closest_canonical(image)
    read = lambda i: np.asarray(i.get_fdata(dtype=np.float64)).reshape((i.shape + (1,))[:3])
    ras = volume(read(canonical), canonical.affine)
    return volume(read(image), image.affine, axes="".join(nibabel.aff2axcodes(image.affine)), ras=ras)


def nifti(folder, rng):
    expected = {}
    affine = np.array([[-1.1, 0.1, 0, 30], [0.1, 1.2, 0, -20], [0, 0, 2.5, 7], [0, 0, 0, 1]])
    for n, kind in enumerate(TYPES):
        order = "<>"[n % 2]
        values = rng.integers(0 if kind[0] == "u" else -100, 100, (5, 4, 3)).astype(order + kind)
        header = nibabel.Nifti1Header(endianness=order)
        header.set_data_dtype(values.dtype)
        image = nibabel.Nifti1Image(values, affine, header)
        if kind == "i2":
            image.header.set_slope_inter(0.25, -3.5)
        path = folder / f"{kind}{'_little' if order == '<' else '_big'}.nii{'.gz' if n % 3 == 0 else ''}"
        nibabel.save(image, path)
        expected[path.name] = of_nibabel(path)
    turned = nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(0.4, -0.3, 1.9) @ np.diag([0.9, -1.3, 2.0]), [3, -4, 5])
    values = rng.integers(0, 100, (5, 4, 3)).astype("i2")
    for name, (sform, qform) in {"qform": (None, turned), "both": (affine, turned), "neither": (None, None)}.items():
        image = nibabel.Nifti1Image(values, None)
        image.header.set_zooms((0.9, 1.3, 2.0))
        image.set_qform(qform, 1 if qform is not None else 0)
        image.set_sform(sform, 2 if sform is not None else 0)
        nibabel.save(image, folder / f"{name}.nii")
        expected[f"{name}.nii"] = of_nibabel(folder / f"{name}.nii")
    return expected


def slices_of(folder):
    found = [pydicom.dcmread(p) for p in sorted(pathlib.Path(folder).iterdir()) if p.is_file()]
    orientation = np.array(found[0].ImageOrientationPatient, float)
    normal = np.cross(orientation[:3], orientation[3:])
    return sorted(found, key=lambda s: np.dot(normal, np.array(s.ImagePositionPatient, float)))


def of_pydicom(folder):
    slices = slices_of(folder)
    values = np.stack([s.pixel_array * float(s.get("RescaleSlope", 1)) + float(s.get("RescaleIntercept", 0)) for s in slices])
    first, last = slices[0], slices[-1]
    orientation, position = np.array(first.ImageOrientationPatient, float), np.array(first.ImagePositionPatient, float)
    spacing = np.array(first.PixelSpacing, float)
    step = (np.array(last.ImagePositionPatient, float) - position) / max(len(slices) - 1, 1)
    if len(slices) == 1:
        step = np.cross(orientation[:3], orientation[3:]) * float(first.get("SpacingBetweenSlices", first.get("SliceThickness", 1)))
    lps = np.stack([orientation[:3] * spacing[1], orientation[3:] * spacing[0], step, position], axis=1)
    return volume(values.T, np.diag([-1, -1, 1]) @ lps)


def dicom(folder, rng):
    import highdicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

    place = folder / "series"
    place.mkdir(exist_ok=True)
    row, column = np.array([0.8, 0.6, 0.0]), np.array([-0.36, 0.48, 0.8])
    normal = np.cross(row, column)
    series, study, frame = (f"1.2.826.0.1.3680043.8.498.{n}" for n in (11, 12, 13))
    written = []
    for k, name in enumerate(["c", "a", "d", "b"]):
        slice_ = Dataset()
        slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, f"{series}.{k + 1}"
        slice_.SeriesInstanceUID, slice_.StudyInstanceUID, slice_.FrameOfReferenceUID = series, study, frame
        slice_.Modality, slice_.PatientName, slice_.PatientID = "CT", "Nobody^Phantom", "phantom"
        slice_.PatientBirthDate = slice_.PatientSex = slice_.StudyDate = slice_.StudyTime = slice_.AccessionNumber = slice_.StudyID = ""
        slice_.ReferringPhysicianName = slice_.Manufacturer = slice_.PositionReferenceIndicator = ""
        slice_.SeriesNumber, slice_.InstanceNumber = 1, 9 - k
        slice_.ImageOrientationPatient = [float(v) for v in [*row, *column]]
        slice_.ImagePositionPatient = [round(float(v), 6) for v in np.array([10, -20, 30]) + k * 2.5 * normal]
        slice_.PixelSpacing, slice_.SliceThickness = [0.7, 0.9], 2.5
        slice_.RescaleSlope, slice_.RescaleIntercept = 2, -1024
        slice_.Rows, slice_.Columns, slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 6, 8, 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 12, 11, 0
        slice_.PixelData = rng.integers(0, 4000, (6, 8)).astype("<u2").tobytes()
        slice_["PixelData"].VR = "OW"
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.MediaStorageSOPClassUID, slice_.file_meta.MediaStorageSOPInstanceUID = CTImageStorage, slice_.SOPInstanceUID
        slice_.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if k == 1 else ExplicitVRLittleEndian
        if k == 2:
            slice_.compress(RLELossless)
        slice_.save_as(place / name, enforce_file_format=True)
        written.append(pydicom.dcmread(place / name))
    expected = {"series": of_pydicom(place)}

    masks = np.zeros((4, 6, 8, 2), bool)
    masks[1:3, 1:4, 2:7, 0] = True
    masks[2:4, 3:6, 1:5, 1] = True
    describe = lambda n, label: highdicom.seg.SegmentDescription(
        segment_number=n,
        segment_label=label,
        segmented_property_category=pydicom.sr.codedict.codes.SCT.Tissue,
        segmented_property_type=pydicom.sr.codedict.codes.SCT.Tissue,
        algorithm_type="MANUAL",
    )
    for slice_ in written:
        if slice_.file_meta.TransferSyntaxUID == RLELossless:
            slice_.decompress()
    segmentation = highdicom.seg.Segmentation(
        source_images=written,
        pixel_array=masks,
        segmentation_type="BINARY",
        segment_descriptions=[describe(1, "one"), describe(2, "two")],
        series_instance_uid=f"{series}.99",
        series_number=2,
        sop_instance_uid=f"{series}.100",
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
    )
    segmentation.save_as(folder / "segmentation.dcm")
    labels = np.where(masks[..., 1], 2, masks[..., 0].astype(int))
    label_map = highdicom.seg.Segmentation(
        source_images=written,
        pixel_array=labels.astype("u1"),
        segmentation_type="LABELMAP",
        segment_descriptions=[describe(1, "one"), describe(2, "two")],
        series_instance_uid=f"{series}.98",
        series_number=3,
        sop_instance_uid=f"{series}.101",
        instance_number=1,
        manufacturer="none",
        manufacturer_model_name="none",
        software_versions="1",
        device_serial_number="1",
    )
    label_map.save_as(folder / "labelmap.dcm")
    expected["labelmap.dcm"] = {"shape": list(labels.shape), "values": labels.ravel().tolist(), "overlapping": 0}
    for slice_ in written:
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    enhanced = highdicom.legacy.LegacyConvertedEnhancedCTImage(
        legacy_datasets=sorted(written, key=lambda s: s.InstanceNumber),
        series_instance_uid=f"{series}.97",
        series_number=4,
        sop_instance_uid=f"{series}.102",
        instance_number=1,
    )
    (folder / "enhanced").mkdir(exist_ok=True)
    enhanced.save_as(folder / "enhanced/frames.dcm")
    read = highdicom.seg.segread(folder / "segmentation.dcm")
    found = read.get_volume(combine_segments=False).array if hasattr(read, "get_volume") else None
    assert found is None or found.sum() == masks.sum()
    expected["segmentation.dcm"] = {"shape": list(labels.shape), "values": labels.ravel().tolist(), "overlapping": int(masks.all(-1).sum())}
    return expected


def misread(folder):
    """Files that decoders read wrongly, and a picture in JPEG strips, which decoders fill up where it is damaged."""
    import imagecodecs
    import tifffile
    from PIL import Image
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGLosslessSV1

    rows, columns = np.mgrid[:16, :24]
    colours = np.stack([rows * 15, columns * 10, (rows + columns) * 6], axis=-1).astype("u1")
    Image.fromarray(colours).save(folder / "jpeg.tif", compression="jpeg", quality=95)
    four = np.concatenate([colours, np.full((16, 24, 1), 7, "u1")], axis=-1)
    options = {"photometric": "rgb", "extrasamples": ["unspecified"], "compression": "zlib", "predictor": True, "metadata": None}
    tifffile.imwrite(folder / "refused/extra-samples.tif", four, **options)
    for name, allocated, stored in [("jpeg-of-8-bits-in-16.dcm", 16, 8), ("jpeg-of-7-bits-in-8.dcm", 8, 7)]:
        slice_ = pydicom.dcmread(folder / "series/c")
        slice_.Rows, slice_.Columns = 16, 24
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = allocated, stored, stored - 1
        stream = bytearray(imagecodecs.ljpeg_encode(colours[..., 0].astype("u2") % (1 << stored), bitspersample=8))
        # The precision in the header of the frame.
        stream[stream.index(b"\xff\xc3") + 4] = stored
        slice_.PixelData = encapsulate([bytes(stream)])
        slice_["PixelData"].is_undefined_length, slice_["PixelData"].VR = True, "OB"
        slice_.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        slice_.save_as(folder / "refused" / name)


def compressed(folder):
    """One slice of the series in lossless JPEG, and a picture in JPEG's first process."""
    import io

    import imagecodecs
    from PIL import Image
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000, JPEGBaseline8Bit, JPEGLosslessSV1

    expected = {}
    ramp = np.add.outer(np.arange(16) * 3, np.arange(24) * 8).astype("u1")
    encoded = io.BytesIO()
    Image.fromarray(ramp).save(encoded, "jpeg", quality=95)
    slice_ = pydicom.dcmread(folder / "series/c")
    lossless = imagecodecs.ljpeg_encode(slice_.pixel_array.astype("u2"), bitspersample=12)
    for name, syntax, stream in [("lossless.dcm", JPEGLosslessSV1, lossless), ("baseline.dcm", JPEGBaseline8Bit, encoded.getvalue())]:
        if name == "baseline.dcm":
            slice_.Rows, slice_.Columns = ramp.shape
            slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 8, 8, 7
        slice_.PixelData = encapsulate([stream])
        slice_["PixelData"].is_undefined_length, slice_["PixelData"].VR = True, "OB"
        slice_.file_meta.TransferSyntaxUID = syntax
        slice_.save_as(folder / name)
        values = pydicom.dcmread(folder / name).pixel_array * 2.0 - 1024
        expected[name] = {"shape": list(values.shape), "values": values.ravel().tolist()}
    # A disc on black: lossy compression overshoots below 0 and beyond the largest value.
    rows, columns = np.mgrid[:32, :32]
    disc = np.where((rows - 16) ** 2 + (columns - 15) ** 2 < 80, 4095, 0).astype("u2")
    slice_.Rows, slice_.Columns = disc.shape
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, 12, 11
    slice_.PixelData = encapsulate([imagecodecs.jpeg2k_encode(disc, level=30, reversible=False, codecformat="j2k", bitspersample=12)])
    slice_["PixelData"].is_undefined_length, slice_["PixelData"].VR = True, "OB"
    slice_.file_meta.TransferSyntaxUID = JPEG2000
    slice_.save_as(folder / "lossy.dcm")
    values = pydicom.dcmread(folder / "lossy.dcm").pixel_array * 2.0 - 1024
    assert (values != disc * 2.0 - 1024).any()
    expected["lossy.dcm"] = {"shape": list(values.shape), "values": values.ravel().tolist()}
    return expected


def pictures(folder, rng):
    import tifffile
    from PIL import Image
    from skimage import draw, io

    rgb = rng.integers(0, 256, (20, 24, 3)).astype("u1")
    rgb[5:12] //= 16
    labels = rng.integers(0, 70_000, (20, 24)).astype("u4")
    Image.fromarray(rgb).save(folder / "lzw.tif", compression="tiff_lzw", tiffinfo={317: 2})
    Image.fromarray(rgb).save(folder / "packbits.tif", compression="packbits")
    tifffile.imwrite(folder / "tiled.tif", rgb, tile=(16, 16), photometric="rgb")
    tifffile.imwrite(folder / "deflate.tif", rgb, compression="zlib", predictor=2, photometric="rgb", byteorder=">")
    io.imsave(folder / "rgb.png", rgb, check_contrast=False)
    io.imsave(folder / "labels16.png", (labels % 60_000).astype("u2"), check_contrast=False)
    io.imsave(folder / "dark16.png", (labels % 256).astype("u2"), check_contrast=False)
    tifffile.imwrite(folder / "labels32.tif", labels, photometric="minisblack")
    expected = {}
    for path in ["lzw.tif", "packbits.tif", "tiled.tif", "deflate.tif", "rgb.png"]:
        read = io.imread(folder / path)
        expected[path] = {"shape": [3, 20, 24], "values": read.transpose(2, 0, 1).ravel().tolist()}
    for path in ["labels16.png", "labels32.tif"]:
        expected[path] = {"shape": [20, 24], "values": io.imread(folder / path).ravel().tolist()}

    rows, columns, regions = 90, 110, []
    for _ in range(40):
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 30)))
        radius = rng.uniform(2, 14) * rng.uniform(0.6, 1.2, len(angles))
        y, x = rng.uniform(-4, rows + 4), rng.uniform(-4, columns + 4)
        regions.append(np.round(np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1), 4) + 0.000013)
    instances = np.zeros((rows, columns), int)
    for n, region in enumerate(regions):
        # A pixel counts when its centre, half a pixel from its corner, lies inside.
        r, c = draw.polygon(region[:, 1] - 0.5, region[:, 0] - 0.5, (rows, columns))
        instances[r, c] = n + 1
    kept = np.unique(instances[instances > 0])
    instances = np.searchsorted(kept, instances) + 1 - (instances == 0)
    vertex = lambda v: f'<Vertex X="{v[0]:.6f}" Y="{v[1]:.6f}" Z="0"/>'
    region = lambda n, r: f'<Region Id="{n}"><Vertices>{"".join(map(vertex, r))}</Vertices></Region>'
    body = "".join(region(n + 1, r) for n, r in enumerate(regions))
    (folder / "annotation.xml").write_text(
        f'<Annotations MicronsPerPixel="0.252000"><Annotation Id="1"><Regions>{body}</Regions></Annotation></Annotations>\n'
    )
    expected["annotation.xml"] = {"shape": [rows, columns], "values": instances.ravel().tolist()}
    return expected


def golden(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    expected = {**nifti(folder, rng), **dicom(folder, rng), **compressed(folder), **pictures(folder, rng)}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    misread(folder)


def digest(found):
    values = np.array(found.pop("values"), "<f4")
    found.pop("ras", None)
    return {**found, "digest": hashlib.sha256(values.tobytes()).hexdigest(), "sum": float(values.sum(dtype=float))}


def real(extra):
    import nilearn
    from pydicom.data import get_testdata_file

    files = sorted((pathlib.Path(nilearn.__file__).parent / "datasets/data").glob("*.nii.gz")) + sorted(extra)
    found = {"volumes": {str(p): digest(of_nibabel(p)) for p in files if nibabel.load(p).ndim == 3}, "series": {}, "slices": {}}
    tests = pathlib.Path(get_testdata_file("CT_small.dcm")).parent
    for place in ["98892001/CT5N"]:
        folder = tests / "dicomdirtests" / place
        found["series"][str(folder)] = digest(of_pydicom(folder))
    for name in SLICES:
        slice_ = pydicom.dcmread(tests / name)
        values = slice_.pixel_array * float(slice_.get("RescaleSlope", 1)) + float(slice_.get("RescaleIntercept", 0))
        found["slices"][str(tests / name)] = digest({"shape": list(values.shape), "values": values.ravel()})
    found["gap"] = str(tests / "dicomdirtests/77654033/CT2")
    found["truncated"] = str(tests / "MR_truncated.dcm")
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    if sys.argv[1] == "golden":
        golden(pathlib.Path(sys.argv[2]))
    else:
        real([p for folder in sys.argv[2:] for p in pathlib.Path(folder).rglob("*.nii.gz")])
