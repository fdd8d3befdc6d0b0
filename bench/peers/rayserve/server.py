"""Ray Serve: one replica behind its HTTP proxy; ``--batch`` is ``@serve.batch`` with up to 64 requests within 2 ms.

BENCH_QUEUE bounds the requests in the replica and those that the proxy keeps waiting; further ones are refused.
"""

import argparse
import os
import signal

import joblib
import numpy as np
import ray
from ray import serve


@serve.deployment(num_replicas=1, max_ongoing_requests=256)
class Rows:
    def __init__(self, path):
        self.model = joblib.load(path)

    async def __call__(self, request):
        rows = np.asarray((await request.json())["rows"])
        return {"predictions": self.model.predict(rows).tolist()}


@serve.deployment(num_replicas=1, max_ongoing_requests=256)
class Batched:
    def __init__(self, path):
        self.model = joblib.load(path)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def predict(self, several):
        labels = self.model.predict(np.concatenate(several))
        return np.split(labels, np.cumsum([len(rows) for rows in several])[:-1])

    async def __call__(self, request):
        labels = await self.predict(np.asarray((await request.json())["rows"]))
        return {"predictions": labels.tolist()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", action="store_true")
    parser.add_argument("--folder", required=True)
    chosen = parser.parse_args()
    # Blocked before threads start, so that the wait below is who receives them.
    ends = {signal.SIGTERM, signal.SIGINT}
    ray.init(
        num_cpus=2, include_dashboard=False, _temp_dir=chosen.folder, log_to_driver=False, _node_ip_address="127.0.0.1"
    )
    serve.start(http_options={"host": "127.0.0.1", "port": chosen.port, "access_log": False})
    deployment = Batched if chosen.batch else Rows
    queue = int(os.environ.get("BENCH_QUEUE", "-1"))
    if queue > 0:
        deployment = deployment.options(max_ongoing_requests=queue, max_queued_requests=queue)
    serve.run(deployment.bind(os.environ["BENCH_MODEL"]), route_prefix="/predict")
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    signal.sigwait(ends)
    serve.shutdown()
    ray.shutdown()
