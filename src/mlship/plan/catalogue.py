"""Known ways to fail, as a table: what the last line of a log or an error says -> its cause and the likely fix. Pure.

``causes`` looks here for the end of its chain. The first pattern that is found wins, so special ones stand before
general ones. A pattern names groups where cause or fix quote what was found. Each has an example in its test, taken
from the library that says it.
"""

from __future__ import annotations

import dataclasses
import re

_PACKAGES = {
    "sklearn": "scikit-learn",
    "cv2": "opencv-python",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil",
    "google.protobuf": "protobuf",
}
_MAX_QUOTE = 120


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """A pattern with its explanation. ``cause`` and ``fix`` may hold ``{group}``; ``{package}`` is one to install."""

    name: str
    pattern: re.Pattern[str]
    cause: str
    fix: str


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """A cause and its fix, for one text."""

    name: str
    cause: str
    fix: str


def explain(text: str) -> Explanation | None:
    """The explanation of an error text; None when nothing in it is known."""
    for known in TABLE:
        if found := known.pattern.search(text):
            groups = {name: (value or "")[:_MAX_QUOTE] for name, value in found.groupdict().items()}
            if module := groups.get("module") or groups.get("needed") or groups.get("here"):
                groups["module"] = module
                top = module.partition(".")[0]
                groups["package"] = _PACKAGES.get(module) or _PACKAGES.get(top) or top.replace("_", "-")
            return Explanation(known.name, known.cause.format_map(groups), known.fix.format_map(groups))
    return None


def _known(name: str, pattern: str, cause: str, fix: str) -> Known:
    return Known(name, re.compile(pattern, re.IGNORECASE), cause, fix)


TABLE: tuple[Known, ...] = (
    # What the model needs and the environment lacks.
    _known(
        "numpy 2 pickle",
        r"No module named '?numpy\._core",
        "The model was saved with NumPy 2 and is loaded with NumPy 1.",
        "Install the NumPy the model was saved with (pip install 'numpy>=2'), or save the model again here.",
    ),
    _known(
        "numpy abi",
        r"numpy\.dtype size changed|compiled using NumPy 1\.x cannot be run in|_ARRAY_API not found"
        r"|numpy\.core\.multiarray failed to import",
        "A compiled package was built for another major version of NumPy than the one installed.",
        "Upgrade the package that fails, or install the NumPy it was built for (pip install 'numpy<2').",
    ),
    _known(
        "moved in sklearn",
        r"No module named '?(?P<module>sklearn(\.\w+)+)",
        "The model was saved with another version of scikit-learn: {module} does not exist in the installed one.",
        "Install the scikit-learn the model was trained with, or train and save it again with the installed one.",
    ),
    _known(
        "class of main",
        r"Can't get attribute '?(?P<what>\w+)'? on <module '__mp_main__|Can't get attribute '?(?P<name>\w+)'? on "
        r"<module '__main__|class .{0,80}__main__|was defined in a script or notebook",
        "The model holds a class or function that was defined in the script that trained it.",
        "Move it into a module that both sides can import and save the model again, or save it with cloudpickle.",
    ),
    _known(
        "class not in library",
        r"Can't get attribute '?(?P<what>\w+)'? on <module '(?P<module>sklearn|xgboost|lightgbm|catboost)",
        "The model needs {what} of {module}, which the installed version does not have.",
        "Install the version of {package} the model was saved with, or save the model again with the installed one.",
    ),
    _known(
        "class not importable",
        r"Can't get attribute '?(?P<what>\w+)'? on <module '(?P<module>[\w.]+)'",
        "The model needs {what} from the module {module}, which is there but has no such thing.",
        "Install the version of {module} the model was saved with.",
    ),
    _known(
        "missing package",
        r"No module named '?(?P<module>[\w.]+)'?|needs the module '(?P<needed>[\w.]+)', which cannot be imported"
        r"|the module '(?P<here>[\w.]+)' cannot be imported here",
        "The Python module {module} cannot be imported where the replica runs.",
        "pip install {package} in the environment that runs mlship; the replica is tried again by itself.",
    ),
    _known(
        "name gone from package",
        r"cannot import name '(?P<what>\w+)' from '(?P<module>[\w.]+)'",
        "The installed {module} has no {what}: it is older or newer than the model or its code expects.",
        "Install the version of {package} the model was made with.",
    ),
    _known(
        "gpu library",
        r"(libcuda|libcudart|libcudnn|libcublas|libnvrtc)[\w.]*|CUDA driver version is insufficient"
        r"|no CUDA-capable device|Found no NVIDIA driver|CUDA error",
        "The model or its framework wants a GPU, and the GPU's libraries or driver are not usable here.",
        "Install the CPU build of the framework (xgboost-cpu, onnxruntime), or the driver and CUDA libraries.",
    ),
    _known(
        "shared library",
        r"(?P<what>lib[\w.+-]+\.so[\w.]*): cannot open shared object file",
        "The shared library {what} is missing on this machine.",
        "Install the system package that has {what} (for libgomp.so.1: apt-get install libgomp1).",
    ),
    _known(
        "glibc",
        r"version [`'](?P<what>GLIBC(XX)?_[\d.]+)' not found",
        "A compiled package needs {what}, and this system's C library is older.",
        "Install an older build of the package, or run mlship on a newer system.",
    ),
    # Versions.
    _known(
        "sklearn version",
        r"InconsistentVersionWarning|Trying to unpickle estimator .{0,60} from version (?P<version>[\d.]+)"
        r"|node array from the pickle has an incompatible dtype|'\w+' object has no attribute '(_?monotonic_cst|"
        r"_?missing_values_in_feature_mask|multi_class|_fill_dtype)'",
        "The model was saved with another version of scikit-learn than the one installed.",
        "Install the scikit-learn it was trained with, or train and save it again with the installed one.",
    ),
    _known(
        "pickle protocol",
        r"unsupported pickle protocol: (?P<what>\d+)",
        "The model was pickled with protocol {what} by a newer Python.",
        "Save it with joblib.dump(model, path, protocol=4), or run mlship on the newer Python.",
    ),
    _known(
        "onnx opset",
        r"Opset \d+ is under development|Unsupported model IR version|opset .{0,60}not supported"
        r"|is not a registered function/op",
        "The ONNX model uses a newer opset or operator than the installed onnxruntime knows.",
        "pip install -U onnxruntime, or convert the model again with a lower target_opset.",
    ),
    _known(
        "python syntax",
        r"(SyntaxError|IndentationError|TabError): (?P<what>.+?)\.?$|is not valid Python: (?P<which>.+?)\.( |$)",
        "The custom model's Python file cannot be parsed: {what}{which}.",
        "Correct the file; python -m py_compile FILE shows the place.",
    ),
    # The bytes.
    _known(
        "truncated",
        r"truncated pickle|pickle data was truncated|Ran out of input|unexpected end of (data|file)|EOFError"
        r"|Compressed file ended before",
        "The model file is cut short or empty.",
        "Save or copy it again, completely; then deploy again.",
    ),
    _known(
        "corrupt pickle",
        r"is corrupt: its|starts like a pickle but is none"
        r"|UnpicklingError|invalid load key|pickle opcode|BadZipFile|File is not a zip file|zlib\.error|BadGzipFile",
        "The model file is damaged, or not of the format it is taken for.",
        "Look what it is (file PATH), save it again, or set modelFormat to what it really is.",
    ),
    _known(
        "unsafe pickle",
        r"is refused: loading it would call or use (?P<what>.+?), which no model needs",
        "The file would run code that no model needs ({what}), so it was not loaded.",
        "If it is yours and right, deploy it with --option trusted=NAME,NAME; else find out who made it.",
    ),
    _known(
        "not a fitted model",
        r"not of a fitted model|it has no predict\b|which has none of",
        "The file holds something else than a fitted model.",
        "Save the fitted estimator or pipeline itself: joblib.dump(model, path).",
    ),
    _known(
        "not served yet",
        r"recognised, not served yet",
        "This kind of model is known, and this version does not serve it.",
        "Export it to ONNX, or wrap it in a Python class with predict.",
    ),
    _known(
        "not a model",
        r"is no model file that is known here|holds no model file",
        "The file or folder is not of a kind that is known here.",
        "Give the model file itself; mlship serve PATH tries it without deploying.",
    ),
    _known(
        "several models",
        r"holds \d+ (models|files)[:;]",
        "The folder holds several models, and one is served.",
        "Name the one file in storageUri.",
    ),
    _known(
        "git lfs pointer",
        r"git-lfs\.github\.com/spec",
        "The file is a Git LFS pointer, not the model.",
        "git lfs pull, then deploy again.",
    ),
    _known(
        "checksum",
        r"checksum does not match",
        "The bytes that arrived are not those of the given sha256.",
        "Check that the address names the right version, or write the sha256 of the file you trust.",
    ),
    # Fetching.
    _known(
        "download 404",
        r"there is nothing at this address|\b404\b.*(Not Found|nothing)|HTTP.{0,20}\b404\b",
        "There is nothing at the model's address.",
        "Check storageUri; paths are case-sensitive.",
    ),
    _known(
        "download refused",
        r"server refused access|\b(401|403)\b.{0,20}(Unauthorized|Forbidden)|refused access \((401|403)\)",
        "The server wants credentials for the model's address.",
        "Use a signed address, or download the model yourself and deploy the file.",
    ),
    _known(
        "certificate",
        r"certificate is not trusted|CERTIFICATE_VERIFY_FAILED",
        "The server's TLS certificate is not trusted on this machine.",
        "Check the machine's clock and CA certificates; SSL_CERT_FILE names another bundle.",
    ),
    _known(
        "name resolution",
        r"Name or service not known|Temporary failure in name resolution|nodename nor servname|getaddrinfo failed",
        "A host name could not be resolved.",
        "Check the spelling of the host, the network and the proxy settings.",
    ),
    _known(
        "download timeout",
        r"could not be fetched in \d+ attempts|not complete after .{0,20} s, the limit|timed out|ReadTimeout"
        r"|ConnectTimeout",
        "The server with the model did not answer, or not fast enough.",
        "Check the network and the server (curl -I ADDRESS); what was received is kept and the next try goes on there.",
    ),
    # The machine.
    _known(
        "disk full",
        r"No space left on device|disk of the cache .{0,200} is full|ENOSPC|Disk quota exceeded",
        "The disk is full.",
        "Free space there, or set MLSHIP_HOME to a folder on a larger disk.",
    ),
    _known(
        "shared memory",
        r"dev/shm|unable to open shared memory|shared memory.{0,60}(space|resize|alloc)|Bus error",
        "There is no room left in shared memory (/dev/shm).",
        "Make /dev/shm larger (mount -o remount,size=2G /dev/shm; docker run --shm-size=2g), or use fewer workers.",
    ),
    _known(
        "out of memory",
        r"MemoryError|Unable to allocate .{0,40}(MiB|GiB|TiB)|bad_alloc|Cannot allocate memory|ended by SIGKILL",
        "Memory ran out: the kernel kills the largest process, or an allocation was refused.",
        "Use a smaller model or fewer replicas, or a machine with more memory; dmesg tells if the kernel killed it.",
    ),
    _known(
        "illegal instruction",
        r"ended by SIGILL|Illegal instruction",
        "A compiled package uses instructions that this CPU does not have, AVX for instance.",
        "Install a build for older CPUs (conda-forge has some), or use another machine.",
    ),
    _known(
        "segfault",
        r"ended by (SIGSEGV|SIGABRT|SIGBUS)|Segmentation fault|double free|core dumped",
        "Native code of a library crashed.",
        "Reinstall the framework so that its parts match; two OpenMP runtimes in one process do this, too.",
    ),
    _known(
        "too many files",
        r"Too many open files|EMFILE",
        "The limit for open files is reached.",
        "Raise it (ulimit -n 65536) in the shell that starts mlship, then mlship down and mlship up.",
    ),
    _known(
        "threads",
        r"can't start new thread|Resource temporarily unavailable|pthread_create failed",
        "The limit for processes and threads is reached.",
        "Raise it (ulimit -u), or give the service fewer CPUs so that libraries start fewer threads.",
    ),
    _known(
        "port taken",
        r"Address already in use|address already in use|EADDRINUSE|is already used by|port \d+ is taken",
        "The port is taken by another program.",
        "Have the container listen on $PORT, which is a free one; for the gateway: mlship up --port auto.",
    ),
    _known(
        "permission",
        r"Permission denied(: (?P<what>.+))?|PermissionError|EACCES|Operation not permitted",
        "A file, folder or port may not be used by this user.",
        "Check the owner and mode of what the line names, and of the folders above it.",
    ),
    _known(
        "program missing",
        r"No such file or directory: '(?P<what>[^/'\s]+)'|command not found|executable file not found",
        "The container's command was not found on this machine.",
        "Install the program, or name it by its full path in the container's command.",
    ),
    _known(
        "missing file",
        r"No such file or directory|FileNotFoundError|does not exist|there is no such file"
        r"|is neither a file nor a folder",
        "A file that is needed is not there.",
        "Check the path in storageUri, or what the model's code opens.",
    ),
    # The server and the model.
    _known(
        "bad arguments",
        r"unrecognized arguments: (?P<what>.+?)\.?( --help.*)?$|error: argument (?P<which>.+)",
        "The server was started with arguments it does not know: {what}{which}.",
        "Correct args of the model or container.",
    ),
    _known(
        "no adapter",
        r"no adapter for the model format",
        "The model format has no adapter in this installation.",
        "Set modelFormat to one that is listed, or install the package that serves it.",
    ),
    _known(
        "features",
        r"X has (?P<got>\d+) features, but \w+ is expecting (?P<expected>\d+)",
        "The model got {got} columns and was trained on {expected}.",
        "Give model.schema.yaml the right shape, or send the columns the model was trained on.",
    ),
    _known(
        "warm-up",
        r"failed its warm-up inference|refused its own example row",
        "The model loads, and fails on its first row.",
        "Try that row in Python; if the example does not suit the model, describe its inputs in model.schema.yaml.",
    ),
    _known(
        "slow start",
        r"not ready \d+ s after its start|did not become ready",
        "The replica took longer to become ready than it may.",
        "See what it does meanwhile (mlship logs NAME); a large model needs a startupProbe with a higher threshold.",
    ),
    _known(
        "not listening",
        r"does not listen yet|Connection refused",
        "The program runs and nothing listens where it should.",
        "Have it listen on 127.0.0.1:$PORT, or on the Unix socket $MLSHIP_HTTP_SOCKET.",
    ),
    _known(
        "no runtime",
        r"no (serving )?runtime|runtime .{0,80}(not found|does not exist|unknown)",
        "No runtime serves this model format, version and protocol.",
        "Check modelFormat and protocolVersion, or apply a ServingRuntime that serves them.",
    ),
)
