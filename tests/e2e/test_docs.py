"""The documentation is true: its commands do what it shows, its links lead somewhere, its YAML is valid.

Every ``console`` block is run, in order, in one shell session a document, against a real installation. Lines that
begin with ``$ `` are commands, the others what they print; ``...`` stands for anything. What differs from run to run
(times, process ids, revisions) is compared by its form. A block whose first line is ``# NAME.EXTENSION`` is a file,
which is written before the commands that follow. A document may rely on ``model.pkl`` and the folder ``examples``.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Iterator

import pytest
import typer.main
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlship.api import load
from mlship.cli import main
from mlship.plan import catalogue

# Each command has a deadline of its own; a document has many.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w./-]+\.\w+)\n")
DOCUMENTED_URL = "localhost:8080"
# What a run prints differently each time; both sides of a comparison are reduced to these words.
VOLATILE = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), "MOMENT"),
    (re.compile(r"\d+(\.\d+)? s\b"), "SECONDS"),
    (re.compile(r"\b\d+[smhd]$", re.MULTILINE), "AGE"),
    (re.compile(r"\bpid \d+"), "PID"),
    (re.compile(r"\brevision [0-9a-f]{8}\b"), "REVISION"),
    (re.compile(r"^[0-9a-f]{8}-\d+ \|", re.MULTILINE), "REPLICA |"),
    (re.compile(r"\b(numpy|scikit-learn|xgboost|lightgbm|onnx) [\d.]+"), r"\1 VERSION"),
    (re.compile(r'"seconds":[\d.]+'), '"seconds":0'),
    (re.compile(r"[ \t]+"), " "),
]


@dataclasses.dataclass(frozen=True)
class Step:
    """A command of a document with what it is shown to print, or a file with its text."""

    command: str = ""
    shown: str = ""
    file: str = ""
    text: str = ""


def steps(document: pathlib.Path) -> Iterator[Step]:
    """What a reader does, from the top to the end."""
    for language, body in BLOCK.findall(document.read_text()):
        if language == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, shown = part.partition("\n")
                yield Step(command=command, shown=shown.rstrip("\n"))
        elif named := FILE.match(body):
            yield Step(file=named[1], text=body)


def pattern(shown: str) -> re.Pattern[str]:
    """What is shown, as an expression that the whole output must match; a line ``...`` is any number of lines."""
    lines = ["(?:[^\n]*\n)*?" if line.strip() == "..." else _line(line) for line in shown.splitlines()]
    return re.compile("".join(lines), re.DOTALL)


def _line(shown: str) -> str:
    return ".*?".join(re.escape(piece) for piece in stable(shown).split("...")) + "\n"


def stable(text: str) -> str:
    for volatile, word in VOLATILE:
        text = volatile.sub(word, text)
    return text


def names(document: pathlib.Path) -> str:
    return str(document.relative_to(ROOT))


class Reader:
    """Somebody who follows a document, in a folder and with an installation of their own."""

    def __init__(self, installation, folder: pathlib.Path) -> None:
        self._installation = installation
        self._folder = folder
        self._gateway = ""
        self._ports: dict[str, int] = {}
        self.servers: list[subprocess.Popen] = []

    def begin(self) -> None:
        self._installation.ok("up", "--port", "auto")
        self._gateway = self._installation.url.removeprefix("http://")

    def write(self, name: str, text: str) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A table has no comments: there the name is not part of the file.
        path.write_text(text.partition("\n")[2] if path.suffix == ".csv" else text)

    def run(self, step: Step) -> None:
        program = step.command.split()[0]
        self.choose(re.findall(r"--(?:grpc-|api-)?port (\d+)", step.command))
        if program == "make":
            check_make(step.command.split()[1:])
        elif program == "pip":
            check_pip(step.command)
        elif step.command.startswith("mlship serve") and step.command.endswith("&"):
            self.serve(step.command.removesuffix("&"))
        else:
            self.compare(step, self.shell(step.command))

    def shell(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", self.localised(command)], env=self.environ, cwd=self._folder, capture_output=True,
            text=True, timeout=90,
        )  # fmt: skip
        # A terminal shows both; notices and progress come before the results in every command.
        printed = (done.stderr + done.stdout).replace(self._gateway, DOCUMENTED_URL)
        for documented, port in self._ports.items():
            printed = printed.replace(str(port), documented)
        failed = "error: " in done.stderr
        assert (done.returncode != 0) == failed or "diff" in command, f"$ {command}\nexit {done.returncode}\n{printed}"
        return printed

    def compare(self, step: Step, printed: str) -> None:
        if step.shown.startswith("error: ") or "\nerror: " in step.shown:
            assert "error: " in printed, f"$ {step.command}\nis shown to fail and printed\n{printed}"
        else:
            assert "error: " not in printed or not printed.startswith("error: "), f"$ {step.command}\n{printed}"
        found = pattern(step.shown).fullmatch(stable(printed).strip("\n") + "\n")
        assert found or not step.shown, f"$ {step.command}\nis shown to print\n{step.shown}\n\nand printed\n{printed}"

    def serve(self, command: str) -> None:
        """A model server in the background, on ports that are free here, until the document ends."""
        started = subprocess.Popen(
            ["bash", "-c", f"exec {self.localised(command)}"], env=self.environ, cwd=self._folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.servers.append(started)
        http = self._ports[re.search(r"--port (\d+)", command)[1]]
        wait_ready(f"http://localhost:{http}/v2/health/ready", started)

    def choose(self, documented: list[str]) -> None:
        """Have free ports here stand for these."""
        self._ports |= dict(zip(documented, free_ports(len(documented)), strict=True))

    def localised(self, command: str) -> str:
        """The command with the addresses of this run, all put in at once: a port may have another's digits in it."""
        here = {DOCUMENTED_URL: self._gateway} | {documented: str(port) for documented, port in self._ports.items()}
        return re.sub("|".join(map(re.escape, here)), lambda found: here[found[0]], command)

    @property
    def environ(self) -> dict[str, str]:
        programs = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**self._installation.environ, "PATH": programs, "HOME": str(self._folder)}

    def end(self) -> None:
        for server in self.servers:
            server.send_signal(signal.SIGTERM)
        for server in self.servers:
            server.wait(timeout=40)
        self._installation.ok("up")
        with self._installation.control as control:
            left = [one["metadata"]["name"] for one in control.list("isvc")]
        if left:
            self._installation.ok("destroy", *left)
        # A pool outlives its last model by a grace, and is in the metrics as long.
        deadline = time.monotonic() + 60
        while self._installation.one("--model-repository") and time.monotonic() < deadline:
            time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports that are free now, no two of them the same."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def wait_ready(url: str, server: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert server.poll() is None, f"the server ended with {server.returncode}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"{url} was never ready")


def check_make(targets: list[str]) -> None:
    made = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(targets) <= set(made)


def check_pip(command: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = re.fullmatch(r"pip install -e '\.\[([\w,]+)\]'", command)
    assert wanted, command
    assert set(wanted[1].split(",")) <= set(extras)


@pytest.fixture
def reader(shared_installation) -> Iterator[Reader]:
    # One for each document: what one leaves when it fails is not in the way of the next.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="work-", dir=shared_installation.where.root.parent))
    rows, labels = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
    (folder / "model.pkl").write_bytes(pickle.dumps(pipeline))
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    made = Reader(shared_installation, folder)
    made.begin()
    yield made
    made.end()
    shutil.rmtree(folder)


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if any(step.command for step in steps(one))], ids=names)
def test_the_commands_of_a_document_do_what_it_shows(document, reader):
    for step in steps(document):
        if step.file:
            reader.write(step.file, step.text)
        else:
            reader.run(step)


def test_what_differs_between_runs_is_compared_by_its_form():
    assert pattern("ready    after 1.5 s").fullmatch(stable("ready after 12 s\n"))
    assert pattern("a\n...\nz").fullmatch(stable("a\nb\nc\nz\n"))
    assert pattern("...\nz").fullmatch(stable("z\n"))
    assert not pattern("found sklearn").fullmatch(stable("found xgboost\n"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_links_lead_somewhere(document):
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        found = (document.parent / path).resolve() if path else document
        assert found.exists(), f"{names(document)} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(found), f"{names(document)} links to {target}, which has no such heading"


def anchors(document: pathlib.Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def yaml_texts() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        for language, body in BLOCK.findall(document.read_text()):
            if language == "yaml" and "kind:" in body:
                yield names(document), body
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        yield names(path), path.read_text()


@pytest.mark.parametrize(("source", "text"), list(yaml_texts()))
def test_yaml_of_the_documentation_is_valid(source, text):
    loaded = load.load(text, source=source)
    assert loaded.documents
    assert not loaded.problems


def test_every_command_and_every_option_is_documented():
    text = (ROOT / "docs" / "commands.md").read_text()
    sections = dict(re.findall(r"^## mlship ([\w-]+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    commands = typer.main.get_command(main.app).commands
    assert set(sections) == set(commands)
    for name, command in commands.items():
        for parameter in command.params:
            argument = parameter.param_type_name == "argument"
            for written in [parameter.name] if argument else parameter.opts:
                assert f"`{written}`" in sections[name], f"docs/commands.md says nothing of {written} of mlship {name}"
        assert "```console\n$ " in sections[name], f"docs/commands.md shows no example of mlship {name}"


def test_the_architecture_names_what_exists():
    text = (ROOT / "docs" / "architecture.md").read_text()
    house = re.search(r"```text\nsrc/mlship/\n(.*?)```", text, re.DOTALL)[1]
    room = ""
    for line in house.splitlines():
        name, inside = line[:40], line.startswith("    ")
        if line and not inside:
            room = name.split()[0].rstrip("/") if "/" in name else ""
        for module in re.findall(r"[\w*/]+", name.replace("(p)", "")) if inside or not room else ():
            assert list((ROOT / "src" / "mlship" / room).glob(f"{module}.py")), f"there is no {room}/{module}"


def test_every_known_failure_is_on_the_page(golden):
    page = ROOT / "docs" / "troubleshooting.md"
    head, made, rest = re.split(r"(<!-- Made from .*? -->\n)", page.read_text())
    rows = [f"| {known.cause} | {known.fix} |" for known in catalogue.TABLE]
    table = "\n".join(["| cause | fix |", "|---|---|", *rows])
    golden(page, f"{head}{made}\n{table}\n\n<!-- end -->{rest.partition('<!-- end -->')[2]}")


def test_every_metric_of_the_documentation_exists():
    """Names of metrics go stale quietly, since nothing fails when a dashboard is empty."""
    text = (ROOT / "docs" / "operations.md").read_text()
    sources = " ".join(path.read_text() for path in (ROOT / "src" / "mlship").rglob("*metrics.py"))
    for name in re.findall(r"`(mlship_\w+)`", text):
        assert re.sub(r"_total$", "", name) in sources, name
    assert json.dumps("mlship_requests") in sources
