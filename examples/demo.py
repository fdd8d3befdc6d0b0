"""The 60-second tour: train a model on real data, deploy the file, ask it about a patient it has not seen.

Run it with ``make demo``. It uses nothing that a user does not have: scikit-learn and the ``mlship`` command.
"""

import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import time

import joblib
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NAME = "breast-cancer"


def say(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def mlship(*arguments: str, capture: bool = False) -> str:
    shown = shlex.join(arguments)
    print(f"$ mlship {shown if len(shown) < 160 else shown[:130] + ' ...'}", flush=True)
    program = shutil.which("mlship", path=str(pathlib.Path(sys.executable).parent)) or "mlship"
    done = subprocess.run([program, *arguments], check=False, text=True, stdout=subprocess.PIPE if capture else None)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""


def main() -> None:
    home = pathlib.Path(os.environ["MLSHIP_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    say("1. Train a model, as you always do")
    data = load_breast_cancer()
    train_x, test_x, train_y, test_y = train_test_split(data.data, data.target, test_size=0.3, random_state=0)
    model = make_pipeline(StandardScaler(), RandomForestClassifier(50, random_state=0)).fit(train_x, train_y)
    path = home / f"{NAME}.joblib"
    joblib.dump(model, path)
    accuracy = model.score(test_x, test_y)
    print(f"RandomForestClassifier on {len(train_x)} patients, accuracy {accuracy:.3f}, saved to {path}")

    say("2. Deploy the file")
    began = time.monotonic()
    mlship("deploy", str(path), "--port", os.environ.get("DEMO_PORT", "auto"))
    print(f"from file to endpoint: {time.monotonic() - began:.1f} s")

    say("3. Ask it about patients it has not seen")
    rows = test_x[:3].tolist()
    answer = json.loads(mlship("predict", NAME, "--data", json.dumps(rows), "--output", "json", capture=True))
    expected = model.predict(test_x[:3]).tolist()
    print(f"endpoint: {answer['predictions']}   in process: {expected}   truth: {test_y[:3].tolist()}")
    if answer["predictions"] != expected:
        sys.exit("The endpoint's answer differs from the model's own: this is a bug in mlship.")
    say("It keeps running. Look around: mlship list, mlship why, mlship logs. End it with: make demo-down")
    print(f"(with MLSHIP_HOME={home} in the environment: the demo has a home of its own)")


if __name__ == "__main__":
    main()
