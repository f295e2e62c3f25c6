"""A conversation on the terminal: turns with memory, and pictures shown along the way."""

import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from queue import SimpleQueue
from unicodedata import category

import typer
from rich.console import Console

from neva.engine.protocol import Chunk, Engine, Request, Sampling
from neva.errors import NevaError
from neva.images import RGBImage, read_image
from neva.prompts import Conversation, ImageSlot, Part, Turn, assistant, user

HELP = """Type a question. Also:
  /image PATH   show a picture with the next question
  /reset        forget the conversation and its pictures
  /help         this text
  /quit         leave, as Ctrl-D does; Ctrl-C stops an answer"""
PROMPT = "> "


def put(text: str) -> None:
    """A piece of answer to stdout at once, without characters that could drive a terminal."""
    typer.echo("".join(c for c in text if category(c) != "Cc" or c in "\n\t"), nl=False)
    sys.stdout.flush()


def utf8(text: str, what: str) -> str:
    """The text; NevaError if there are bytes in it that are no UTF-8.

    Python takes them for halves of surrogate pairs, and a file's name may well have some.
    """
    if any("\udc80" <= c <= "\udcff" for c in text):
        raise NevaError(f"{what} is not UTF-8: save or send it as UTF-8.")
    return text


class Talk:
    """The state of a conversation: finished turns, their pictures, and pictures to come."""

    def __init__(
        self, engine: Engine, sampling: Sampling, system: str | None, console: Console
    ) -> None:
        self.engine = engine
        self.sampling = sampling
        self.system = system
        self.console = console
        self.turns: tuple[Turn, ...] = ()
        self.images: tuple[RGBImage, ...] = ()
        self.waiting: tuple[RGBImage, ...] = ()
        self.ended = False
        self.failed = False
        self.commands: dict[str, Callable[[str], None]] = {
            "/image": self.show,
            "/reset": self.reset,
            "/help": self.help,
            "/quit": self.quit,
        }

    def run(self, picture: RGBImage | None) -> bool:
        """Read lines until the end of input; a question that fails leaves the rest as it was.

        Whether all went well; on a terminal whoever saw a failure could mend it, so always.
        """
        if picture is not None:
            self.waiting = (picture,)
        if isinstance(sys.stdin, TextIOWrapper):  # one odd line must not end the others
            sys.stdin.reconfigure(errors="surrogateescape")
        if sys.stdin.isatty():
            with suppress(ImportError):
                import readline  # noqa: F401  (gives `input` a history and editing)
            self.console.print(f"[bold]{self.engine.info.name}[/] (/help, Ctrl-D to leave)")
        while not self.ended:
            try:
                line = input(PROMPT if sys.stdin.isatty() else "").strip()
                if line:
                    self.take(line)
            except EOFError:
                break
            except KeyboardInterrupt:
                self.console.print("\n(Ctrl-D to leave)")
        return sys.stdin.isatty() or not self.failed

    def take(self, line: str) -> None:
        """A command or a question; what the user can mend is said in one sentence."""
        word, _, rest = line.partition(" ")
        try:
            if word in self.commands:
                self.commands[word](rest.strip())
            elif word.startswith("/"):
                raise NevaError(f"{word} is no command; /help lists them.")
            else:
                self.question(line)
        except NevaError as error:
            self.failed = True
            self.console.print(str(error), style="red", markup=False)

    def question(self, text: str) -> None:
        """Ask, with the pictures that wait, and remember both question and answer."""
        utf8(text, "the line")
        slots: list[Part] = [
            ImageSlot(len(self.images) + index) for index in range(len(self.waiting))
        ]
        asked = user(*slots, f"\n{text}" if slots else text)
        images = self.images + self.waiting
        conversation = Conversation((*self.turns, asked), self.system)
        answered, last = self.answer(Request(conversation, images, self.sampling))
        if last.finish == "error":
            raise NevaError(last.error or "the engine failed; ask again.")
        if last.finish == "length":
            self.console.print("(cut: --max-tokens or the context is reached; /reset begins anew)")
        self.turns = (*conversation.turns, assistant(answered.strip()))
        self.images, self.waiting = images, ()

    def answer(self, request: Request) -> tuple[str, Chunk]:
        """Stream an answer to stdout; Ctrl-C stops it and keeps what was said."""
        stream = self.engine.generate([request])[0]
        heard: SimpleQueue[Chunk] = SimpleQueue()  # unlike an iterator, it survives a Ctrl-C
        stream.listen(heard.put)
        text, last = "", Chunk("")
        while last.finish is None:
            try:
                last = heard.get()
            except KeyboardInterrupt:
                stream.cancel()
                continue
            text += last.text
            put(last.text)
        typer.echo()
        return text, last

    def show(self, path: str) -> None:
        """Take a picture for the next question."""
        if not path:
            raise NevaError("/image needs a path: /image PATH shows that file.")
        image = read_image(Path(path).expanduser())
        self.waiting = (*self.waiting, image)
        width, height = image.size
        self.console.print(f"({width} x {height} pixels, shown with your next question)")

    def reset(self, _: str) -> None:
        """Forget everything."""
        self.turns, self.images, self.waiting = (), (), ()
        self.console.print("(forgotten)")

    def help(self, _: str) -> None:
        """Say what can be typed."""
        self.console.print(HELP)

    def quit(self, _: str) -> None:
        """Leave after this line."""
        self.ended = True
