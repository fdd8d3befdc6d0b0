"""FastAPI and uvicorn, written by hand. ``/async`` runs the model on the event loop, ``/thread`` in the pool."""

import argparse
import os

import joblib
import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

MODEL = joblib.load(os.environ["BENCH_MODEL"])
app = FastAPI()


class Rows(BaseModel):
    rows: list[list[float]]


def answer(body: Rows) -> dict[str, list[int]]:
    return {"predictions": MODEL.predict(np.asarray(body.rows)).tolist()}


@app.post("/async")
async def predict_async(body: Rows) -> dict[str, list[int]]:
    return answer(body)


@app.post("/thread")
def predict_thread(body: Rows) -> dict[str, list[int]]:
    return answer(body)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    uvicorn.run(
        app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning"
    )
