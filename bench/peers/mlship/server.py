"""mlship as its users run it: control plane, Envoy and replicas, in a home folder of its own, until SIGTERM."""

import argparse
import os
import pathlib
import signal
import subprocess
import sys

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--accelerate", default="auto")
    chosen = parser.parse_args()
    ends = {signal.SIGTERM, signal.SIGINT}
    command = [sys.executable, "-m", "mlship.cli"]
    settings = {**os.environ, "MLSHIP_HOME": str(chosen.folder)}
    deploy = ["deploy", os.environ["BENCH_MODEL"], "--name", chosen.name, "--accelerate", chosen.accelerate]
    try:
        subprocess.run([*command, *deploy, "--port", str(chosen.port)], env=settings, check=True)
        # What ran before may have set masks of its own; from here only the two signals end the wait.
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)
        signal.sigwait(ends)
    finally:
        subprocess.run([*command, "down"], env=settings, check=True)
