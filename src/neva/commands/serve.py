"""`neva serve`: a model behind NVIDIA's API for neva-22b and OpenAI's, with a page for people."""

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from threading import Thread
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from neva.cachedir import home, writable
from neva.commands.terms import with_terms
from neva.engine import IMAGE_CACHE_MIB, check_engine, open_engine
from neva.engine.precision import SERVED
from neva.engine.protocol import Engine
from neva.errors import NevaError
from neva.model.checkpoint import Checkpoint
from neva.nano import default_checkpoint
from neva.server.address import LOOPBACK_NAMES, bind, check_exposure, in_the_clear
from neva.server.auth import Keys
from neva.server.limit_words import NAMES, limits_with
from neva.server.logs import log_to_stderr
from neva.server.settings import Limits, Settings

_log = logging.getLogger("neva.server")

KEY = "NEVA_API_KEY"
UPSTREAM_KEY = "NEVA_UPSTREAM_KEY"
CLEAR = (
    "\n[yellow]keys and pictures travel unencrypted[/] to this address: let a proxy in front "
    "terminate TLS, and say --tls-in-front"
)


class LogFormat(StrEnum):
    """How log lines look."""

    auto = "auto"
    text = "text"
    json = "json"


Model = Annotated[Path | None, typer.Option(help="Checkpoint; the default model if left out.")]
Host = Annotated[str, typer.Option(help="Address; another than loopback needs API keys.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port.")]
Upstream = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Serve in front of another OpenAI-compatible server (vLLM, SGLang, trtllm-serve, "
        f"llama.cpp) instead of a model of our own; its key is in ${UPSTREAM_KEY}.",
    ),
]
UpstreamName = Annotated[
    str | None, typer.Option(help="Which of the models that --upstream lists; its first.")
]
EngineName = Annotated[
    str | None,
    typer.Option(help="openvino (needs no torch) or torch.", show_default="openvino"),
]
PrecisionName = Annotated[
    str | None,
    typer.Option(
        help="openvino: int8-fast (default), bf16, int4-fast: fastest, text may vary with load; "
        "int8, fp32, int4: same seed, same text. torch: fp32, bf16, fp16."
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(help=f"Keys made by `neva key`, followed as it changes. One may be in ${KEY}."),
]
Fronted = Annotated[
    bool,
    typer.Option(
        "--tls-in-front",
        help="A proxy in front terminates TLS and decides who may pass: any address and Host.",
    ),
]
Origins = Annotated[
    list[str], typer.Option(help="Origin whose pages may call the API (repeatable).")
]
ImageHosts = Annotated[
    list[str],
    typer.Option(help="Host whose http(s) image URLs may be fetched, or .domain (repeatable)."),
]
Shared = Annotated[
    bool,
    typer.Option(help="Images encoded for one key are quick for all, who can tell by the time."),
]
Running = Annotated[int, typer.Option(min=1, help="Answers in the engine at once.")]
Waiting = Annotated[int, typer.Option(min=0, help="Answers waiting; more get 429.")]
Bounds = Annotated[
    list[str],
    typer.Option(
        metavar="NAME=VALUE",
        help="Another limit of requests, as body_bytes=8MiB or images=4 (repeatable): "
        f"{', '.join(NAMES)}.",
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        help="Folder of stored responses, files, assets.", show_default="~/.local/share/neva"
    ),
]
StoreUrl = Annotated[
    str | None,
    typer.Option(help="PostgreSQL URL for files and responses, instead of SQLite in --data."),
]
Cache = Annotated[
    int | None,
    typer.Option(
        min=16,
        help="MiB for the KV cache (openvino): how much of all conversations is remembered. "
        "\\[default: 2048, more for a model whose one conversation needs more]",
        show_default=False,
    ),
]
ImageCache = Annotated[
    int,
    typer.Option(
        min=5,
        help="MiB for pictures that were asked about (openvino); one of 49 tokens takes 0.15.",
    ),
]
Days = Annotated[
    float, typer.Option(min=0.01, max=36500, help="Days that files and responses are kept.")
]
Log = Annotated[LogFormat, typer.Option(help="Form of the log lines on stderr.")]
Collector = Annotated[
    str | None,
    typer.Option(help="OpenTelemetry collector to send traces to, as http://127.0.0.1:4318."),
]


def serve(
    model: Model = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    upstream: Upstream = None,
    upstream_name: UpstreamName = None,
    engine: EngineName = None,
    precision: PrecisionName = None,
    api_key_file: KeyFile = None,
    tls_in_front: Fronted = False,
    cors: Origins = [],  # noqa: B006  typer makes a list of its own
    images_from: ImageHosts = [],  # noqa: B006
    share_images: Shared = False,
    max_running: Running = Limits.running,
    max_waiting: Waiting = Limits.waiting,
    limit: Bounds = [],  # noqa: B006
    cache_mib: Cache = None,
    image_cache_mib: ImageCache = IMAGE_CACHE_MIB,
    data: Folder = None,
    store: StoreUrl = None,
    keep_days: Days = 30.0,
    log: Log = LogFormat.auto,
    otlp: Collector = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C; answers under way are finished first.

    Example: neva serve --model stage2/final --host 0.0.0.0 --api-key-file keys
    """
    settings = Settings(
        host=host,
        port=port,
        key_file=api_key_file,
        tls_in_front=tls_in_front,
        cors=tuple(cors),
        images_from=tuple(images_from),
        share_images=share_images,
        data=data or data_folder(),
        store=store,
        keep_days=keep_days,
        otlp=otlp,
        limits=limits_with(limit, Limits(running=max_running, waiting=max_waiting)),
    )
    settings = guarded(settings)
    if upstream is not None:
        if any(given is not None for given in (model, engine, precision, cache_mib)):
            raise typer.BadParameter(
                "--model, --engine, --precision and --cache-mib are of a model of our own; "
                "with --upstream its server has them"
            )
        open_it = in_front_of(upstream, upstream_name)
    elif upstream_name is not None:
        raise typer.BadParameter("--upstream-name needs --upstream")
    else:
        open_it = opener(model, engine or "openvino", precision, cache_mib, image_cache_mib)
    run(settings, open_it, log_to_stderr(log.value))


def guarded(settings: Settings) -> Settings:
    """With the environment's key, and its own names only where nothing else keeps strangers out.

    NevaError for a broken key file, now and not at the first request, and for an open public door.
    """
    settings = replace(settings, keys=read_keys())
    if settings.key_file is not None:
        Keys.read(settings.key_file)
    check_exposure(settings)
    watched = settings.closed or settings.tls_in_front
    return replace(settings, hosts=() if watched else (*LOOPBACK_NAMES, settings.host))


def opener(
    model: Path | None,
    engine: str,
    precision: str | None,
    cache_mib: int | None = None,
    image_cache_mib: int = IMAGE_CACHE_MIB,
) -> Callable[[], Engine]:
    """What opens the engine, beside a server that listens already.

    NevaError at once for what can be told now: no such engine or precision, no checkpoint there,
    a model that the engine cannot run. The default model may still have to be put together.
    """
    given = None if model is None else Checkpoint.open(model)
    if engine == "openvino":
        precision = precision or SERVED
    check_engine(engine, precision, given)
    if given is not None:
        with_terms(given)

    def open_it() -> Engine:
        checkpoint = given or with_terms(Checkpoint.open(default_checkpoint()))
        return open_engine(
            checkpoint, engine, precision, cache_mib=cache_mib, image_cache_mib=image_cache_mib
        )

    return open_it


def in_front_of(url: str, name: str | None) -> Callable[[], Engine]:
    """What opens another server as the engine. NevaError at once for what is no address.

    A busy server is not waited for: who asks gets a 503 and may come again.
    """
    from neva.engine.remote import RemoteEngine
    from neva.engine.wire import Server

    key = os.environ.get(UPSTREAM_KEY, "").strip() or None
    Server(url, key)
    return lambda: RemoteEngine(url, name, key, patience=0, discreet=True)


def run(settings: Settings, open_it: Callable[[], Engine], as_text: bool = True) -> None:
    """Bind, tell where, load, serve, drain. Raises what kept the engine from opening."""
    told = Told(settings, as_text)
    failures: list[Exception] = []

    def opened(failure: Exception | None) -> None:
        if failure is not None:
            failures.append(failure)
            server.should_exit = True
            return
        told.ready()

    with bind(settings.host, settings.port) as bound:
        engine = begun(open_it)
        from neva.server.app import create_app  # a second with the next, while the engine loads
        from neva.server.listen import listen, server_for

        server = server_for(create_app(engine, settings, opened))
        listen(server, bound, told.listening)
    if failures:
        raise failures[0]


class Told:
    """What the operator is told of a server that starts: for people, or as lines of its log."""

    def __init__(self, settings: Settings, as_text: bool) -> None:
        self._settings, self._start = settings, time.perf_counter()
        self._loading = True
        self._console = Console(stderr=True, highlight=False) if as_text else None

    def listening(self) -> None:
        """Where, and what is to be known of it."""
        settings = self._settings
        if self._console is not None:
            self._console.print(banner(settings, self._loading))
            return
        _log.info("listening", extra={"url": base_url(settings), "keys": settings.closed})
        if in_the_clear(settings):
            _log.warning(Text.from_markup(CLEAR).plain.strip())

    def ready(self) -> None:
        """The engine is open."""
        self._loading = False
        seconds = round(time.perf_counter() - self._start, 1)
        if self._console is not None:
            self._console.print(f"[green]ready[/] after {seconds} s")
        else:
            _log.info("ready", extra={"seconds": seconds})


def begun(open_it: Callable[[], Engine]) -> Callable[[], Engine]:
    """`open_it`, already under way in a thread; what is returned waits for its engine."""
    future: Future[Engine] = Future()

    def work() -> None:
        try:
            future.set_result(open_it())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=work, name="neva-opening", daemon=True).start()
    return future.result


def data_folder() -> Path:
    """`$XDG_DATA_HOME/neva`, or `~/.local/share/neva`.

    NevaError if it cannot be written: a container's user may have no home.
    """
    root = os.environ.get("XDG_DATA_HOME")
    folder = (Path(root) if root else home() / ".local" / "share") / "neva"
    if not writable(folder):
        raise NevaError(
            f"{folder} cannot be written: name a folder for responses, files and assets by --data "
            "FOLDER or by XDG_DATA_HOME"
        )
    return folder


def read_keys() -> Keys:
    """The key of the environment, if it has one."""
    single = os.environ.get(KEY, "").strip()
    return Keys().with_key("environment", single) if single else Keys()


def base_url(settings: Settings) -> str:
    """Where the server is, as its operator says it."""
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{name}:{settings.port}"


def banner(settings: Settings, loading: bool = True) -> str:
    """Where everything is."""
    base = base_url(settings)
    state = "is loading the model; meanwhile it listens" if loading else "listens"
    need = "Authorization: Bearer KEY" if settings.closed else "no key needed"
    return (
        f"[bold]NeVA[/] {state} ({need})\n"
        f"  page     {base}/\n"
        f"  NVIDIA   {base}/v1/vlm/nvidia/neva-22b\n"
        f"  OpenAI   {base}/v1\n"
        f"  docs     {base}/docs{CLEAR if in_the_clear(settings) else ''}"
    )
