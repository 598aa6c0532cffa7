"""Images and labels of Fashion-MNIST, prepared as fixtures/preprocess/fmnist.json says."""

import gzip

import numpy as np
import torch

MEAN, STD = 0.2860, 0.3530


def load_images(path):
    raw = gzip.open(path).read()
    count, height, width = (int.from_bytes(raw[i : i + 4], "big") for i in (4, 8, 12))
    pixels = np.frombuffer(raw, np.uint8, offset=16).reshape(count, 1, height, width)
    return torch.from_numpy((pixels / np.float32(255) - MEAN).astype(np.float32) / np.float32(STD))


def load_labels(path):
    return torch.from_numpy(np.frombuffer(gzip.open(path).read(), np.uint8, offset=8).astype(np.int64))
