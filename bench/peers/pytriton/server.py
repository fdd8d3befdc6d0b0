"""pytriton: Triton with the model in a Python process; ``--batch`` is Triton's dynamic batching, without a delay.

BENCH_QUEUE is Triton's queue policy: so many requests wait, further ones are refused. BENCH_ROWS is the largest batch.
"""

import argparse
import os

import joblib
import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, QueuePolicy, Tensor
from pytriton.triton import Triton, TritonConfig

MODEL = joblib.load(os.environ["BENCH_MODEL"])


@batch
def infer(**inputs):
    return {"predict": MODEL.predict(inputs["input-0"]).astype(np.int64).reshape(-1, 1)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--batch", action="store_true")
    chosen = parser.parse_args()
    ports = {"http_port": chosen.port, "grpc_port": chosen.grpc_port, "allow_metrics": False}
    config = TritonConfig(http_address="127.0.0.1", grpc_address="127.0.0.1", log_verbose=0, **ports)
    rows = int(os.environ.get("BENCH_ROWS", "4096"))
    queue = int(os.environ.get("BENCH_QUEUE", "0"))
    policy = {"default_queue_policy": QueuePolicy(max_queue_size=queue)} if queue else {}
    batcher = DynamicBatcher(**policy) if chosen.batch else None
    with Triton(config=config) as triton:
        triton.bind(
            model_name=chosen.name,
            infer_func=infer,
            inputs=[Tensor(name="input-0", dtype=np.float64, shape=(-1,))],
            outputs=[Tensor(name="predict", dtype=np.int64, shape=(1,))],
            config=ModelConfig(batching=True, max_batch_size=rows, batcher=batcher),
        )
        triton.serve()
