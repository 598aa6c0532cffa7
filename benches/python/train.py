"""Training steps of the fixture networks in PyTorch: images per second.

Usage: train.py NETWORK THREADS STEPS [bf16]
Batches of 128 images of 1 x 28 x 28 from memory, cross-entropy, SGD with Nesterov momentum, in
training mode. The first steps, in which memory is taken, are not timed.
"""

import resource
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

BATCH = 128
WARM_UP = 3


def conv(inputs, outputs, stride=1, kernel=3):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Vgg7(nn.Module):
    def __init__(self):
        super().__init__()
        layers, inputs = [], 1
        for width in (32, 32, "pool", 64, 64, "pool", 128, 128, 128):
            if width == "pool":
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [conv(inputs, width), nn.ReLU()]
                inputs = width
        self.features, self.head = nn.Sequential(*layers), nn.Linear(inputs, 10)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first, self.second = conv(inputs, outputs, stride), conv(outputs, outputs)
        same = stride == 1 and inputs == outputs
        self.short = nn.Identity() if same else conv(inputs, outputs, stride, 1)

    def forward(self, x):
        return F.relu(self.second(F.relu(self.first(x))) + self.short(x))


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        layers, inputs = [conv(1, 16), nn.ReLU()], 16
        for width in (16, 32, 64):
            for i in range(3):
                layers.append(Block(inputs, width, 2 if i == 0 and width > 16 else 1))
                inputs = width
        self.features, self.head = nn.Sequential(*layers), nn.Linear(inputs, 10)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def main():
    network, threads, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    half = sys.argv[4:] == ["bf16"]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = {"vgg7": Vgg7, "resnet20": ResNet20}[network]()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=5e-4, nesterov=True)
    images = torch.randn(8 * BATCH, 1, 28, 28)
    labels = torch.randint(0, 10, (8 * BATCH,))
    start = time.perf_counter()
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            start = time.perf_counter()
        at = step % 8 * BATCH
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = F.cross_entropy(model(images[at : at + BATCH]), labels[at : at + BATCH])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{BATCH * steps / seconds:.1f} images/s, {peak:.0f} MiB")


if __name__ == "__main__":
    main()
