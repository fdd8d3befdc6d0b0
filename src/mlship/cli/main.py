"""``mlship``: the commands. Each says what it takes and hands over to the module that does it.

This module is what ``mlship --help`` costs, so it imports nothing but typer: every command imports its own work.
It is also the command line's ``main``: the only place in cli/ that reads the environment.
"""

from __future__ import annotations

import os
import pathlib
from typing import Annotated

import typer

from mlship import home

app = typer.Typer(
    name="mlship",
    help="Model serving as a control loop: give it a model file, get an endpoint.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Namespace = Annotated[str, typer.Option("--namespace", "-n", help="The namespace.")]
Format = Annotated[str, typer.Option("--format", help="Model format, when it cannot be found by looking.")]
Options = Annotated[
    list[str] | None, typer.Option("--option", help="KEY=VALUE for the model's adapter, for example class=MyModel.")
]
Port = Annotated[str, typer.Option("--port", help="The gateway's port, or 'auto' for a free one.")]
Accelerate = Annotated[
    str,
    typer.Option("--accelerate", help="Compile the model where it is proven to answer alike: auto, exact or off."),
]
Output = Annotated[str, typer.Option("--output", "-o", help="text, json or yaml.")]
Name = Annotated[str, typer.Argument(help="The service's name.")]
Words = Annotated[list[str], typer.Argument(help="A service's name, KIND NAME ..., or KIND/NAME ...")]
Files = Annotated[list[str], typer.Option("--file", "-f", help="A YAML file, a folder of them, or - for stdin.")]


def _home() -> home.Home:
    return home.locate(os.environ)


@app.command()
def deploy(
    model: Annotated[str, typer.Argument(help="A model file or folder, or a file://, http(s):// or pvc:// URI.")],
    name: Annotated[str, typer.Option("--name", help="The service's name; the file's name when not given.")] = "",
    namespace: Namespace = "default",
    format: Format = "",  # noqa: A002
    option: Options = None,
    accelerate: Accelerate = "",
    replicas: Annotated[
        str, typer.Option("--replicas", help="How many processes serve it: a number, or bounds to scale within: 0-5.")
    ] = "1",
    env: Annotated[list[str] | None, typer.Option("--env", "-e", help="KEY=VALUE for the model's process.")] = None,
    port: Port = "",
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait until it is ready; 0: do not.")] = 180,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the InferenceService and stop.")] = False,
) -> None:
    """Make an endpoint of a model file and print its URL."""
    from mlship.cli import deploying

    asked = deploying.Asked(
        model=model, name=name, namespace=namespace, format=format, options=tuple(option or ()), replicas=replicas,
        env=tuple(env or ()), port=port, wait=wait, dry_run=dry_run, accelerate=accelerate,
    )  # fmt: skip
    deploying.run(_home(), asked)


@app.command()
def predict(
    name: Name,
    data: Annotated[str, typer.Option("--data", "-d", help="JSON rows, a V1 or V2 request, or @FILE.")] = "",
    file: Annotated[
        pathlib.Path | None, typer.Option("--file", "-f", help="A .json request or a .csv with a header line.")
    ] = None,
    namespace: Namespace = "default",
    wanted: Annotated[
        list[str] | None, typer.Option("--want", help="An output by name, for example predict_proba.")
    ] = None,
    output: Output = "text",
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for the answer.")] = 60,
) -> None:
    """Ask a service for a prediction."""
    from mlship.cli import asking

    question = asking.Question(
        name=name, namespace=namespace, data=data, file=file, wanted=tuple(wanted or ()), output=output,
        timeout=timeout,
    )  # fmt: skip
    asking.run(_home(), question)


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help="A kind: so, scaledobject, servingruntime ...; without: services.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="One namespace only.")] = "",
    output: Output = "text",
) -> None:
    """List the services, or the objects of a kind."""
    from mlship.cli import showing

    showing.objects(_home(), kind=kind, namespace=namespace, output=output)


@app.command()
def get(words: Words, namespace: Namespace = "default", output: Output = "text") -> None:
    """Show a service: its state, its address, what it takes and gives; or objects of any kind."""
    from mlship.cli import showing

    showing.get(_home(), words=words, namespace=namespace, output=output)


@app.command()
def why(words: Words, namespace: Namespace = "default", output: Output = "text") -> None:
    """Explain a service's state: from the condition to the process to the last error and the likely fix."""
    from mlship.cli import showing

    showing.why(_home(), words=words, namespace=namespace, output=output)


@app.command()
def top(
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="One namespace only.")] = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it again every second, until Ctrl-C.")] = False,
    output: Output = "text",
) -> None:
    """Show how busy the services are, and what was decided last about their number of replicas."""
    from mlship.cli import busy

    busy.top(_home(), namespace=namespace, watch=watch, output=output)


@app.command()
def logs(
    name: Name,
    namespace: Namespace = "default",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with the lines to come.")] = False,
    tail: Annotated[int, typer.Option("--tail", min=0, help="Lines of each replica to begin with.")] = 100,
) -> None:
    """Print what a service's replicas wrote."""
    from mlship.cli import showing

    showing.logs(_home(), name=name, namespace=namespace, tail=tail, follow=follow)


@app.command()
def destroy(
    words: Annotated[list[str] | None, typer.Argument(help="Services' names, KIND NAME ..., or KIND/NAME ...")] = None,
    file: Annotated[
        list[str] | None, typer.Option("--file", "-f", help="What a YAML file, a folder of them or - (stdin) declares.")
    ] = None,
    namespace: Namespace = "default",
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait until it is gone; 0: do not.")] = 60,
) -> None:
    """End services, or what else is named, and forget them: traffic first, then the processes."""
    from mlship.cli import applying

    applying.destroy(_home(), words=words or (), files=file or (), namespace=namespace, wait=wait)


@app.command()
def apply(
    file: Files,
    namespace: Namespace = "default",
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait until all are ready; 0: do not.")] = 0,
    port: Port = "",
) -> None:
    """Make KServe YAML true. Nothing is applied unless every document of every file is valid."""
    from mlship.cli import applying

    applying.apply(_home(), files=file, namespace=namespace, wait=wait, port=port)


@app.command()
def diff(file: Files, namespace: Namespace = "default") -> None:
    """Print what apply would do, and do nothing. Exit code 0: nothing would change, 1: something would."""
    from mlship.cli import applying

    applying.diff(_home(), files=file, namespace=namespace)


@app.command()
def up(
    port: Port = "",
    host: Annotated[str, typer.Option("--host", help="The address the gateway binds.")] = "",
    domain: Annotated[str, typer.Option("--domain", help="What service hosts end in: NAME-NAMESPACE.DOMAIN.")] = "",
    api_port: Annotated[
        str,
        typer.Option("--api-port", help="Serve the control API on this loopback port too, with a token; or 'auto'."),
    ] = "",
) -> None:
    """Start the local control plane and the gateway. deploy and apply do it by themselves."""
    from mlship.cli import running

    running.up(_home(), port=port, host=host, domain=domain, api_port=api_port)


@app.command()
def down() -> None:
    """End the control plane, the gateway and every replica. The objects stay: up brings them back."""
    from mlship.cli import running

    running.down(_home())


@app.command()
def status(output: Output = "text") -> None:
    """Say what runs here: control plane, gateway, services."""
    from mlship.cli import running

    running.status(_home(), output=output)


# A number that nobody can mean: the model's own code says how many.
_BY_MODEL = -1


@app.command()
def serve(
    path: Annotated[pathlib.Path, typer.Argument(help="A model file or folder.")],
    name: Annotated[str, typer.Option("--name", help="The model's name; the file's name when not given.")] = "",
    format: Format = "",  # noqa: A002
    option: Options = None,
    accelerate: Accelerate = "",
    host: Annotated[str, typer.Option("--host", help="The address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="The REST port.")] = 8080,
    grpc_port: Annotated[int, typer.Option("--grpc-port", help="The gRPC port; 0: no gRPC.")] = 8081,
    repository: Annotated[
        bool, typer.Option("--repository", help="PATH is a model repository: NAME/[VERSION/]model.")
    ] = False,
    paging: Annotated[bool, typer.Option("--paging", help="Load a repository's models when they are used.")] = False,
    memory_budget: Annotated[int, typer.Option("--memory-budget", help="Bytes that --paging may use.")] = 0,
    quarantine_file: Annotated[
        pathlib.Path | None, typer.Option("--quarantine-file", help="Remembers models that ended the server.")
    ] = None,
    max_body_bytes: Annotated[int, typer.Option("--max-body-bytes", help="Largest request, REST and gRPC.")] = 0,
    workers: Annotated[int, typer.Option("--workers", help="Threads that run the model.")] = 0,
    worker_processes: Annotated[
        int, typer.Option("--worker-processes", help="Processes that run the model instead; 0: none.")
    ] = _BY_MODEL,
    max_batch_size: Annotated[
        int, typer.Option("--max-batch-size", help="Rows up to which requests that wait are joined; 1: never.")
    ] = 0,
    batch_latency_ms: Annotated[
        float, typer.Option("--batch-latency-ms", help="How long a request may wait for others to be joined with.")
    ] = 0.0,
    warmup: Annotated[
        str, typer.Option("--warmup", help="A file, or JSON, with V2 requests to answer before it is ready.")
    ] = "",
    warmup_requests: Annotated[
        pathlib.Path | None, typer.Option("--warmup-requests", help="Logged V2 requests to answer first, one a line.")
    ] = None,
) -> None:
    """Serve a model in the foreground, without control plane and gateway: what a container runs."""
    from mlship.cli import running

    running.serve(
        running.Serving(
            path=path, name=name, format=format, options=tuple(option or ()), host=host, port=port,
            grpc_port=grpc_port, repository=repository, max_body_bytes=max_body_bytes, workers=workers,
            worker_processes=worker_processes, accelerate=accelerate, proofs=home.user_proofs(os.environ),
            max_batch_size=max_batch_size, batch_latency_ms=batch_latency_ms, warmup=warmup,
            warmup_requests=warmup_requests, paging=paging, memory_budget=memory_budget,
            quarantine_file=quarantine_file,
        )
    )  # fmt: skip


@app.command()
def version() -> None:
    """Print mlship's version."""
    import mlship

    typer.echo(mlship.__version__)
