"""What each thread is busy with, written where it outlives the process: so that a crash can be told of.

A mapped file has a slot for each call of a model and each load; a slot is a few bytes, written before model code runs
and cleared behind it. Memory of a mapped file is the system's: it is there for the next process whatever ended this
one (a fault in a library, ``os._exit``, a kill for want of memory). The next process reads it first, ``quarantine``
says what follows, and the strikes are kept in a file beside it that anybody may read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import mmap
import os
import pathlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from mlship import errors
from mlship.protocol import messages
from mlship.server import loading, logs, quarantine, worker
from mlship.server import model as contract

LOG = logging.getLogger(__name__)
_SLOT, _SLOTS = 192, 255
_HEAD = b"mlship-marks-1"
_ALIVE = len(_HEAD)
_DOING = {1: "loading", 2: "running"}
_LOADING, _RUNNING = 1, 2
# Of a mark: name, version, identity.
_PARTS = 3

Key = quarantine.Key


class _Bench:
    """The mapped file: who takes a slot, writes a mark into it, and gives it back."""

    def __init__(self, file: pathlib.Path) -> None:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, (1 + _SLOTS) * _SLOT)
            self._map = mmap.mmap(descriptor, (1 + _SLOTS) * _SLOT)
        finally:
            os.close(descriptor)
        # Taken and given back by one operation of a list each, which no other thread can come between.
        self._free = [number * _SLOT for number in range(_SLOTS, 0, -1)]

    def read(self) -> list[quarantine.Mark]:
        """What the process before this one was busy with when it died; nothing if it ended in order."""
        if self._map[: len(_HEAD)] != _HEAD or not self._map[_ALIVE]:
            return []
        found = []
        for at in range(_SLOT, (1 + _SLOTS) * _SLOT, _SLOT):
            if doing := _DOING.get(self._map[at]):
                text = self._map[at + 2 : at + 2 + self._map[at + 1]].decode(errors="replace").split("\0")
                if len(text) == _PARTS:  # Else the machine ended with it half written to disk.
                    name, version, identity = text
                    found.append(quarantine.Mark((name, version), identity, doing))
        return found

    def begin(self) -> None:
        """This process is alive from now on."""
        self._map[:] = bytes(len(self._map))
        self._map[: len(_HEAD)] = _HEAD
        self._map[_ALIVE] = 1

    def over(self) -> None:
        """It ends in order: what is cut short now is nobody's fault."""
        self._map[_ALIVE] = 0

    def take(self, mark: bytes) -> int:
        """Write ``mark`` into a free slot; 0: there is none, and nothing is written."""
        try:
            at = self._free.pop()
        except IndexError:
            return 0
        self._map[at : at + len(mark)] = mark
        return at

    def clear(self, at: int) -> None:
        """Give back what ``take`` gave."""
        if at:
            self._map[at] = 0
            self._free.append(at)


def _mark(key: Key, identity: str, doing: int) -> bytes:
    text = "\0".join((*key, identity)).encode()
    return bytes((doing, len(text))) + text


def _short(identity: str) -> str:
    return hashlib.blake2s(identity.encode(), digest_size=8).hexdigest()


class Crashes:
    """Who was there when processes before this one died, and who is there now.

    Args:
        file: where strikes are kept; the marks lie beside it. None: nobody keeps any.
        limit: strikes with which a model is kept out.
    """

    def __init__(self, file: pathlib.Path | None, *, limit: int = quarantine.LIMIT) -> None:
        self._file = file
        self._limit = limit
        self._records: dict[Key, quarantine.Record] = {}
        self._bench: _Bench | None = None
        # Models with a strike run one at a time, so that the next death tells which of them it was.
        self._alone = threading.Lock()
        if file is not None:
            self._begin(file)

    @classmethod
    def none(cls) -> Crashes:
        """Of nobody."""
        return cls(None)

    def _begin(self, file: pathlib.Path) -> None:
        try:
            self._records = _read(file)
            self._bench = _Bench(file.with_name(f"{file.name}.marks"))
            died = self._bench.read()
            if died:
                self._records = quarantine.after_death(self._records, died, now=time.time())
                _write(file, self._records)
            self._bench.begin()
        except OSError as error:
            raise errors.SpecError(
                f"the quarantine file {file} cannot be used: {error.strerror}.",
                hint="Give --quarantine-file a place in a folder that can be written.",
            ) from error
        for mark in died:
            extra = logs.fields(model=mark.key[0], version=mark.key[1], doing=mark.doing, strikes=self._strikes(mark))
            LOG.warning("the process before this one died with a model at work", extra=extra)

    def _strikes(self, mark: quarantine.Mark) -> int:
        return quarantine.strikes(self._records, mark.key, mark.identity, now=time.time())

    def strikes(self, key: Key, identity: str) -> int:
        """The strikes that count against a model."""
        if key not in self._records:
            return 0
        return quarantine.strikes(self._records, key, _short(identity), now=time.time())

    def refusal(self, key: Key, identity: str) -> errors.MlshipError | None:
        """Why a model is kept out; None: it is not."""
        count = self.strikes(key, identity)
        if count < self._limit:
            return None
        return errors.NotReady(
            f'model "{key[0]}" version {key[1]} is in quarantine: the server process died {count} times while it was '
            f"{self._records[key].doing}.",
            hint="Replace its file and its entry (another digest or path lifts this), or serve it by itself.",
        )

    def report(self, key: Key, identity: str) -> dict[str, Any]:
        """A model's part of the pool's report."""
        refusal = self.refusal(key, identity)
        return {"strikes": self.strikes(key, identity), "quarantined": str(refusal) if refusal is not None else ""}

    @contextlib.contextmanager
    def while_loading(self, key: Key, identity: str) -> Iterator[None]:
        """Around a load, on its thread."""
        if self._bench is None:
            yield
            return
        with self._alone if self.strikes(key, identity) else contextlib.nullcontext():
            at = self._bench.take(_mark(key, _short(identity), _LOADING))
            try:
                yield
            finally:
                self._bench.clear(at)

    def watched(self, loaded: loading.Loaded, key: Key, identity: str) -> loading.Loaded:
        """``loaded`` with a model whose calls are on record."""
        model = loaded.model
        if self._bench is None or hasattr(model, "runner"):
            return loaded  # What runs in processes of its own takes nobody with it.
        mark = _mark(key, _short(identity), _RUNNING)
        made: Any
        if worker.is_coroutine(model):
            made = _WatchedCoroutine(model, self._bench, mark)
        elif self.strikes(key, identity):
            made = _Suspect(model, self._bench, mark, self._alone)
        else:
            made = _Watched(model, self._bench, mark)
        return dataclasses.replace(loaded, model=made)

    def over(self) -> None:
        """The process ends in order."""
        if self._bench is not None:
            self._bench.over()

    def close(self) -> None:
        """As ``over``; the file stays mapped, for model code that still runs."""
        self.over()


class _Watched:
    """A model whose calls are on record; everything else is the model's."""

    def __init__(self, model: contract.Model, bench: _Bench, mark: bytes) -> None:
        self._model = model
        self._infer: Any = model.infer
        self._take, self._clear, self._mark = bench.take, bench.clear, mark

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def infer(self, inputs: Mapping[str, messages.Array], *, outputs: Any, parameters: Any) -> Any:
        at = self._take(self._mark)
        try:
            return self._infer(inputs, outputs=outputs, parameters=parameters)
        finally:
            self._clear(at)


class _Suspect(_Watched):
    """One with a strike: not where requests arrive, and no two of its kind at once."""

    quick = False

    def __init__(self, model: contract.Model, bench: _Bench, mark: bytes, alone: threading.Lock) -> None:
        super().__init__(model, bench, mark)
        self._alone = alone

    def infer(self, inputs: Mapping[str, messages.Array], *, outputs: Any, parameters: Any) -> Any:
        with self._alone:
            return super().infer(inputs, outputs=outputs, parameters=parameters)


class _WatchedCoroutine(_Watched):
    async def infer(self, inputs: Mapping[str, messages.Array], *, outputs: Any, parameters: Any) -> Any:
        at = self._take(self._mark)
        try:
            return await self._infer(inputs, outputs=outputs, parameters=parameters)
        finally:
            self._clear(at)


def _read(file: pathlib.Path) -> dict[Key, quarantine.Record]:
    try:
        found = orjson.loads(file.read_bytes())
        return {
            (each["name"], each["version"]): quarantine.Record(
                identity=str(each["identity"]),
                strikes=int(each["strikes"]),
                at=float(each["at"]),
                doing=str(each["doing"]),
            )
            for each in found["models"]
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        LOG.warning("quarantine file is not understood and begins anew", extra=logs.fields(error=str(error)[:200]))
        return {}


def _write(file: pathlib.Path, records: Mapping[Key, quarantine.Record]) -> None:
    models = [
        {"name": name, "version": version, **dataclasses.asdict(record)} for (name, version), record in records.items()
    ]
    new = file.with_name(f".{file.name}.new")
    new.write_bytes(orjson.dumps({"models": models}, option=orjson.OPT_INDENT_2))
    new.replace(file)
