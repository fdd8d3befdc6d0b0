"""LitServe: one worker process; ``--batch`` joins up to 64 requests within 2 ms, its documented batching."""

import argparse
import os

import joblib
import litserve
import numpy as np


class Rows(litserve.LitAPI):
    def setup(self, device):
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    def decode_request(self, request):
        return np.asarray(request["rows"])

    def predict(self, x):
        return self.model.predict(x)

    def encode_response(self, output):
        return {"predictions": output.tolist()}


class Batched(Rows):
    def batch(self, inputs):
        self.sizes = [len(rows) for rows in inputs]
        return np.concatenate(inputs)

    def unbatch(self, output):
        return np.split(output, np.cumsum(self.sizes)[:-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", action="store_true")
    chosen = parser.parse_args()
    api = Batched(max_batch_size=64, batch_timeout=0.002) if chosen.batch else Rows()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=chosen.port, generate_client_file=False, log_level="warning")
