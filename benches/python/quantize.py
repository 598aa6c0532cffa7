"""Post-training int8 by ONNX Runtime's own tools, and what a command costs.

Usage: quantize.py ort MODEL DATA METHOD (channel|tensor) OUTPUT COUNT MEAN STD
       quantize.py run COMMAND...
DATA is a folder of images or an IDX file. Prints one JSON object: CPU seconds and the largest
resident memory; with `ort` of `quantize_static` alone, without imports, and of the part of it that runs
the data and finds the ranges.
"""

import contextlib
import gzip
import json
import pathlib
import resource
import struct
import subprocess
import sys
import time


def images(path, count, mean, std):
    import numpy as np

    path = pathlib.Path(path)
    if path.is_dir():
        from PIL import Image

        names = sorted(name for name in path.iterdir() if name.suffix in (".jpg", ".png"))
        pixels = [np.asarray(Image.open(name).convert("RGB")) for name in names[:count]]
        x = np.stack(pixels).transpose(0, 3, 1, 2)
    else:
        data = gzip.open(path).read()
        _, number, rows, columns = struct.unpack(">4I", data[:16])
        x = np.frombuffer(data, np.uint8, offset=16).reshape(number, 1, rows, columns)
        x = x[np.random.default_rng(0).permutation(number)[:count]]
    return ((x / 255.0 - mean) / std).astype(np.float32)


def by_ort(model, data, method, granularity, output, count, mean, std):
    import onnxruntime
    from onnxruntime import quantization as q

    onnxruntime.set_default_logger_severity(3)
    x = images(data, int(count), float(mean), float(std))
    name = onnxruntime.InferenceSession(model).get_inputs()[0].name

    # The seconds of what finds ranges: running the data, counting, and choosing from the counts.
    calibration = 0.0

    def timed(method):
        def run(*args, **kwargs):
            nonlocal calibration
            start = time.process_time()
            try:
                return method(*args, **kwargs)
            finally:
                calibration += time.process_time() - start

        return run

    for kind in (q.calibrate.MinMaxCalibrater, q.calibrate.HistogramCalibrater):
        for step in ("collect_data", "compute_data"):
            setattr(kind, step, timed(getattr(kind, step)))

    class Reader(q.CalibrationDataReader):
        def __init__(self):
            self.batches = iter({name: x[i : i + 1]} for i in range(len(x)))

        def get_next(self):
            return next(self.batches, None)

    start = time.process_time()
    # It says on the way what it does.
    with contextlib.redirect_stdout(sys.stderr):
        q.quantize_static(
            model,
            output,
            Reader(),
            calibrate_method=getattr(q.CalibrationMethod, method),
            per_channel=granularity == "channel",
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
        )
    seconds = time.process_time() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, calibration


def of_command(command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss, None


def main():
    found = by_ort(*sys.argv[2:]) if sys.argv[1] == "ort" else of_command(sys.argv[2:])
    seconds, kilobytes, calibration = found
    found = {"cpu_seconds": seconds, "peak_megabytes": kilobytes / 1024}
    print(json.dumps(found | {"calibration_seconds": calibration}))


main()
