"""Custom Python: a file or a package with a class that has ``predict`` and, if it likes, ``load``.

The class may be written for this server, for KServe or for MLflow (``frameworks.callstyles``); ``predict`` may be a
coroutine function. What kind it is is found out once, at load. A class attribute ``signature`` or a
``model.schema.yaml`` says what it takes; without either, anything is let through. docs/custom-models.md is the guide.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import pathlib
import types
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import orjson

from mlship import errors
from mlship.protocol import messages
from mlship.server import model
from mlship.server.artifact import schema_file
from mlship.server.frameworks import callstyles, signatures, usercode

# As many as the server's flag takes.
_MAX_PROCESSES = 256


def load(artifact: model.Artifact) -> model.Model:
    """Import the user's code, make its object and let it load; see ``model.Load``."""
    module = usercode.load(artifact.file)
    try:
        schema = schema_file.of(artifact)
        found = usercode.pick(module, wanted=artifact.options.get("class", ""))
        folder = pathlib.Path(str(module.__file__)).parent
        context = Context(folder, artifact)
        instance = _made(found, artifact, folder)
        _call_load(instance, context)
        kind = AsyncCustom if inspect.iscoroutinefunction(instance.predict) else Custom
        served = kind(module, instance, context=context, schema=schema)
        # Class names need a plain answer to look at; a coroutine's is not there yet.
        return served if served.is_async else signatures.labelled(served, schema)
    except BaseException:
        usercode.unload(module)
        raise


class Context:
    """What MLflow's PythonModel gets as context: paths by artifact name, and the user's options."""

    def __init__(self, folder: pathlib.Path, artifact: model.Artifact) -> None:
        self.folder = folder
        hidden = (schema_file.NAME,)
        self.artifacts = {
            entry.stem: str(entry) for entry in sorted(folder.iterdir()) if entry.name not in hidden and _is_data(entry)
        }
        self.model_config = {key: value for key, value in artifact.options.items() if key != schema_file.OPTION}


def _is_data(entry: pathlib.Path) -> bool:
    return entry.suffix != ".py" and not entry.name.startswith((".", "__"))


def _guarded(what: str, folder: pathlib.Path, call: Callable[[], Any]) -> Any:
    """Run the user's code; whatever it raises becomes a ``ModelError`` that says where."""
    try:
        return call()
    except errors.MlshipError:
        raise
    except (Exception, SystemExit) as error:
        raise errors.ModelError(f"{what} failed: {usercode.said(error, folder)}.") from error


def _made(found: type[Any], artifact: model.Artifact, folder: pathlib.Path) -> Any:
    needed = [
        item.name
        for item in inspect.signature(found).parameters.values()
        if item.default is inspect.Parameter.empty
        and item.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]
    if needed not in ([], ["name"]):
        raise errors.ModelError(
            f"the class {found.__name__} needs the arguments {', '.join(needed)} to be made.",
            hint="Give them defaults; only name is given. Files and settings belong into load.",
        )
    keywords = {"name": artifact.file.stem} if needed else {}
    return _guarded(f"{found.__name__}()", folder, lambda: found(**keywords))


def _call_load(instance: Any, context: Context) -> None:
    """``load()``, ``load(folder)`` or MLflow's ``load_context(context)``; coroutine functions are run to their end."""
    for name, argument in (("load_context", context), ("load", context.folder)):
        method = getattr(instance, name, None)
        if method is None:
            continue
        needed = [
            item
            for item in inspect.signature(method).parameters.values()
            if item.default is inspect.Parameter.empty and item.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        arguments = (argument,) if needed else ()
        _guarded(name, context.folder, functools.partial(_run, method, *arguments))


def _run(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it; a coroutine is run to its end (this is a loader's or a worker's thread, without a loop)."""
    result = function(*arguments)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def _hook(instance: Any, name: str) -> Callable[..., Any] | None:
    """A pre- or postprocess of the user's own; KServe's base class has ones that do nothing."""
    method = getattr(instance, name, None)
    if not callable(method) or getattr(method, "__module__", "").split(".")[0] == "kserve":
        return None
    found: Callable[..., Any] = method
    return found


def _signature(
    instance: Any, schema: schema_file.Schema | None
) -> tuple[messages.Signature, schema_file.Schema | None]:
    """The signature by the schema file, else by the class attribute, else unknown; and the schema it came from."""
    said = getattr(instance, "signature", None)
    if schema is None and isinstance(said, messages.Signature):
        return said, None
    if schema is None and isinstance(said, Mapping):
        schema = schema_file.parse(orjson.dumps(said).decode(), source=f"{type(instance).__name__}.signature")
    if schema is None:
        return messages.Signature(batched=False, known=False), None
    return signatures.of(schema), schema


class Custom:
    """A user's object as a model."""

    is_async = False
    joins = False
    parameters: Mapping[str, type] | None = {}

    def __init__(
        self, module: types.ModuleType, instance: Any, *, context: Context, schema: schema_file.Schema | None
    ) -> None:
        self._module = module
        self._instance = instance
        self._context = context
        self._signature, said = _signature(instance, schema)
        self._where = f"{type(instance).__name__} ({pathlib.Path(str(module.__file__)).name})"
        self._call = callstyles.of(instance.predict, where=self._where)
        kserve = self._call.style is callstyles.Style.KSERVE
        self._before = _hook(instance, "preprocess") if kserve else None
        self._after = _hook(instance, "postprocess") if kserve else None
        self._example = _example(said, self._signature)
        self.concurrent = _concurrent(instance, self._where, is_async=self.is_async)
        self.processes = _processes(instance, self._where)
        # The code may keep something of each request, or look at its rows together: only its author knows.
        self.joins = bool(getattr(instance, "joins", False))
        if self._call.extras & {"parameters", "params"}:
            self.parameters = None

    @property
    def signature(self) -> messages.Signature:
        return self._signature

    @property
    def platform(self) -> str:
        return "python"

    def example(self) -> Mapping[str, messages.Array]:
        """The schema's example, or that of the object's own ``example()``; empty without either."""
        own = getattr(self._instance, "example", None)
        if self._example or not callable(own):
            return self._example
        row: Mapping[str, messages.Array] = _guarded("example", self._context.folder, own)
        return row

    def infer(
        self,
        inputs: Mapping[str, messages.Array],
        *,
        outputs: Sequence[str],
        parameters: Mapping[str, messages.Scalar],
    ) -> Any:
        """See ``model.Model.infer``."""
        arguments, keywords = self._call.arguments(inputs, parameters, context=self._context)
        result = _guarded("predict", self._context.folder, lambda: self._predict(arguments, keywords))
        return self._named(result, outputs)

    def _predict(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        *context, data = arguments
        if self._before is not None:
            data = _run(self._before, data)
        result = self._instance.predict(*context, data, **keywords)
        return _run(self._after, result) if self._after is not None else result

    def _named(self, result: Any, wanted: Sequence[str]) -> dict[str, messages.Array]:
        names = tuple(spec.name for spec in self._signature.outputs)
        found = callstyles.outputs(result, names, where=self._where)
        names = tuple(wanted) or self._signature.default_outputs
        if missing := [name for name in names if name not in found]:
            family = errors.ModelError if self._signature.outputs else errors.SpecError
            raise family(f"{self._where}: predict gave {', '.join(found) or 'nothing'}, without {missing[0][:60]!r}.")
        return {name: found[name] for name in names} if names else found

    def close(self) -> None:
        """Let the object end its own things (``close`` or ``stop``), then forget its module."""
        for name in ("close", "stop"):
            method = getattr(self._instance, name, None)
            if callable(method):
                _guarded(name, self._context.folder, functools.partial(_run, method))
                break
        usercode.unload(self._module)


class AsyncCustom(Custom):
    """A user's object whose ``predict`` is a coroutine function: ``infer`` gives the coroutine."""

    is_async = True

    def infer(
        self,
        inputs: Mapping[str, messages.Array],
        *,
        outputs: Sequence[str],
        parameters: Mapping[str, messages.Scalar],
    ) -> Coroutine[Any, Any, dict[str, messages.Array]]:
        """See ``model.Model.infer``; the result is in the coroutine."""
        return self._infer(inputs, outputs, parameters)

    async def _infer(
        self,
        inputs: Mapping[str, messages.Array],
        outputs: Sequence[str],
        parameters: Mapping[str, messages.Scalar],
    ) -> dict[str, messages.Array]:
        arguments, keywords = self._call.arguments(inputs, parameters, context=self._context)
        *context, data = arguments
        try:
            if self._before is not None:
                data = await _awaited(self._before(data))
            result = await self._instance.predict(*context, data, **keywords)
            if self._after is not None:
                result = await _awaited(self._after(result))
        except (errors.MlshipError, asyncio.CancelledError):
            raise
        except (Exception, SystemExit) as error:
            raise errors.ModelError(f"predict failed: {usercode.said(error, self._context.folder)}.") from error
        return self._named(result, outputs)


async def _awaited(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def _example(schema: schema_file.Schema | None, signature: messages.Signature) -> dict[str, messages.Array]:
    if schema is None or schema.example is None:
        return {}
    return signatures.example_of(schema, signature.inputs, signature.columns)


def _processes(instance: Any, where: str) -> int:
    """In how many processes the object wants to run; 0: in the server's own."""
    value = getattr(instance, "processes", 0)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_PROCESSES:
        raise errors.ModelError(f"{where}: processes must be a whole number of 0 to {_MAX_PROCESSES}, got {value!r}.")
    return value


def _concurrent(instance: Any, where: str, *, is_async: bool) -> int:
    """The object's own ``concurrent``; without it one thread, but many coroutines, which mostly wait."""
    value = getattr(instance, "concurrent", 64 if is_async else 1)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise errors.ModelError(f"{where}: concurrent must be a positive integer, got {value!r}.")
    return value
