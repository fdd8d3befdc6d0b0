"""Writes MLServer's settings for one model into ``--folder`` and becomes ``mlserver start`` there.

``--workers 0`` runs the model in the server's process, its documented choice for light models; 1 is as shipped.
``--batch`` is its adaptive batching: up to 64 requests within 2 ms.
"""

import argparse
import json
import os
import pathlib
import sys

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("--port", "--grpc-port", "--metrics-port", "--workers"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--batch", action="store_true")
    chosen = parser.parse_args()
    settings = {
        "host": "127.0.0.1",
        "http_port": chosen.port,
        "grpc_port": chosen.grpc_port,
        "metrics_port": chosen.metrics_port,
        "parallel_workers": chosen.workers,
        "debug": False,
    }
    model = {
        "name": chosen.name,
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": os.environ["BENCH_MODEL"]},
    }
    if chosen.batch:
        model |= {"max_batch_size": 64, "max_batch_time": 0.002}
    chosen.folder.mkdir(parents=True, exist_ok=True)
    (chosen.folder / "settings.json").write_text(json.dumps(settings))
    (chosen.folder / "model-settings.json").write_text(json.dumps(model))
    program = str(pathlib.Path(sys.executable).with_name("mlserver"))
    os.execv(program, [program, "start", str(chosen.folder)])
