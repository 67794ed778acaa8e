#!/usr/bin/env python3
"""Make batch-p3, -p4 and -p5: files of two images in the form of CIFAR-10's Python
version, pickled by a current Python and NumPy in protocols 3 to 5. (The files that
are distributed were made by Python 2 in protocol 2; the test writes such itself.)
"""
import os, pickle
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
data = ((np.arange(2)[:, None] * 7 + np.arange(3072)[None, :] * 5) % 256).astype(np.uint8)
for protocol in (3, 4, 5):
    with open(os.path.join(HERE, f"batch-p{protocol}"), "wb") as f:
        pickle.dump({"batch_label": "training batch 1 of 5", "labels": [3, 9], "data": data, "filenames": ["a.png", "b.png"]}, f, protocol)
