"""`neva serve`: a model behind NVIDIA's API for neva-22b and OpenAI's, with a page for people."""

import os
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import typer
from rich.console import Console

from neva.commands.terms import with_terms
from neva.engine import open_engine
from neva.engine.protocol import Engine
from neva.model.checkpoint import Checkpoint
from neva.nano import default_checkpoint
from neva.server.app import create_app
from neva.server.auth import Keys
from neva.server.listen import LOOPBACK_NAMES, bind, check_exposure, listen, server_for
from neva.server.logs import log_to_stderr
from neva.server.settings import Limits, Settings

KEY = "NEVA_API_KEY"


class LogFormat(StrEnum):
    """How log lines look."""

    auto = "auto"
    text = "text"
    json = "json"


def serve(
    model: Path | None = typer.Option(None, help="Checkpoint; the default model if left out."),
    host: str = typer.Option("127.0.0.1", help="Address; another than loopback needs API keys."),
    port: int = typer.Option(8000, min=1, max=65535, help="Port."),
    engine: str = typer.Option("openvino", help="openvino (needs no torch) or torch."),
    precision: str | None = typer.Option(
        None,
        help="openvino: int8 (default), fp32, int4: same seed, same text; bf16, int8-fast, "
        "int4-fast: text may vary with load. torch: fp32, bf16, fp16.",
    ),
    api_key_file: Path | None = typer.Option(
        None, help=f"Keys made by `neva key`, followed as it changes. One may be in ${KEY}."
    ),
    cors: list[str] = typer.Option([], help="Origin whose pages may call the API (repeatable)."),
    images_from: list[str] = typer.Option(
        [], help="Host whose http(s) image URLs may be fetched, or .domain (repeatable)."
    ),
    share_images: bool = typer.Option(
        False, help="Images encoded for one key are quick for all, who can tell by the time."
    ),
    max_running: int = typer.Option(Limits.running, min=1, help="Answers in the engine at once."),
    max_waiting: int = typer.Option(Limits.waiting, min=0, help="Answers waiting; more get 429."),
    data: Path | None = typer.Option(
        None, help="Folder of stored responses, files, assets [default: ~/.local/share/neva]"
    ),
    store: str | None = typer.Option(
        None, help="PostgreSQL URL for files and responses, instead of SQLite in --data."
    ),
    keep_days: float = typer.Option(30.0, min=0.01, help="Days that files and responses are kept."),
    log: LogFormat = typer.Option(LogFormat.auto, help="Form of the log lines on stderr."),
    otlp: str | None = typer.Option(
        None, help="OpenTelemetry collector to send traces to, as http://127.0.0.1:4318."
    ),
) -> None:
    """Serve until SIGTERM or Ctrl-C; answers under way are finished first."""
    keys = read_keys()
    if api_key_file is not None:
        Keys.read(api_key_file)  # a wrong file is said now, not at the first request
    settings = Settings(
        host=host,
        port=port,
        keys=keys,
        key_file=api_key_file,
        hosts=() if keys or api_key_file else (*LOOPBACK_NAMES, host),
        cors=tuple(cors),
        images_from=tuple(images_from),
        share_images=share_images,
        data=data or data_folder(),
        store=store,
        keep_days=keep_days,
        otlp=otlp,
        limits=Limits(running=max_running, waiting=max_waiting),
    )
    check_exposure(settings)
    log_to_stderr(log.value)

    def open_it() -> Engine:
        checkpoint = with_terms(Checkpoint.open(model or default_checkpoint()))
        return open_engine(checkpoint, engine, precision)

    run(settings, open_it)


def run(settings: Settings, open_it: Callable[[], Engine]) -> None:
    """Bind, tell where, load, serve, drain. Raises what kept the engine from opening."""
    console = Console(stderr=True, highlight=False)
    failures: list[Exception] = []
    start = time.perf_counter()

    def opened(failure: Exception | None) -> None:
        if failure is not None:
            failures.append(failure)
            server.should_exit = True
            return
        console.print(f"[green]ready[/] after {time.perf_counter() - start:.1f} s")

    with bind(settings.host, settings.port) as bound:
        server = server_for(create_app(open_it, settings, opened))
        listen(server, bound, lambda: console.print(banner(settings)))
    if failures:
        raise failures[0]


def data_folder() -> Path:
    """`$XDG_DATA_HOME/neva`, or `~/.local/share/neva`."""
    root = os.environ.get("XDG_DATA_HOME")
    return (Path(root) if root else Path.home() / ".local" / "share") / "neva"


def read_keys() -> Keys:
    """The key of the environment, if it has one."""
    single = os.environ.get(KEY, "").strip()
    return Keys().with_key("environment", single) if single else Keys()


def banner(settings: Settings) -> str:
    """Where everything is."""
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = f"http://{name}:{settings.port}"
    need = "Authorization: Bearer KEY" if settings.closed else "no key needed"
    return (
        f"[bold]NeVA[/] is loading the model; meanwhile it listens ({need})\n"
        f"  page     {base}/\n"
        f"  NVIDIA   {base}/v1/vlm/nvidia/neva-22b\n"
        f"  OpenAI   {base}/v1\n"
        f"  docs     {base}/docs"
    )
