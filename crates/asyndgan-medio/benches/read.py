"""What a user would run in Python instead: `python read.py KIND COUNT FILE...` does it COUNT times and prints the seconds of all.

KIND is nifti (nibabel, to float32 arrays) or annotations (lxml and scikit-image, FILE to a 1000 x 1000 instance map).
"""

import sys
import time

import numpy as np


def nifti(files):
    import nibabel

    return [np.asarray(nibabel.load(path).dataobj, dtype=np.float32) for path in files]


def annotations(files):
    from lxml import etree
    from skimage.draw import polygon

    maps = []
    for path in files:
        labels = np.zeros((1000, 1000), np.int32)
        for n, region in enumerate(etree.parse(path).iter("Region")):
            vertices = np.array([(float(v.get("Y")), float(v.get("X"))) for v in region.iter("Vertex")])
            rows, columns = polygon(vertices[:, 0] - 0.5, vertices[:, 1] - 0.5, labels.shape)
            labels[rows, columns] = n + 1
        maps.append(labels)
    return maps


if __name__ == "__main__":
    kind, count, files = globals()[sys.argv[1]], int(sys.argv[2]), sys.argv[3:]
    kind(files)
    start = time.perf_counter()
    for _ in range(count):
        kind(files)
    print(time.perf_counter() - start)
