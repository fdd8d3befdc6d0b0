"""KServe's Python server, used as its own sklearn server uses it; its access and latency logs off when asked."""

import argparse
import os

import joblib
from kserve import InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import get_predict_response


class Sklearn(Model):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.model = joblib.load(os.environ["BENCH_MODEL"])
        self.ready = True

    async def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        labels = self.model.predict(payload.inputs[0].as_numpy())
        return get_predict_response(payload, labels, self.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--quiet", action="store_true")
    chosen = parser.parse_args()
    ports = {"http_port": chosen.port, "grpc_port": chosen.grpc_port}
    quiet = {"enable_latency_logging": False, "access_log_format": None} if chosen.quiet else {}
    ModelServer(workers=1, enable_docs_url=False, **ports, **quiet).start([Sklearn(chosen.name)])
