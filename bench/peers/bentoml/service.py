"""BentoML: one worker; the batchable method is its adaptive batching. BENCH_QUEUE: its limit of requests at once."""

import os

import bentoml
import joblib
import numpy as np

BATCH = os.environ.get("BENCH_BATCH") == "1"
QUEUE = int(os.environ.get("BENCH_QUEUE", "0"))
TRAFFIC = {"timeout": 60, **({"max_concurrency": QUEUE} if QUEUE else {})}


@bentoml.service(workers=1, traffic=TRAFFIC, logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Rows:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @bentoml.api(batchable=BATCH, max_batch_size=2000, max_latency_ms=1000)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.model.predict(np.asarray(rows))
