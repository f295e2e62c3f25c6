"""The house is built as its plan says, nothing unfit is committed, README's request is answered."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import neva
from documents import MODULES, ROOT, SRC, fences, tracked, tree

TORCH = ("torch", "transformers", "peft")
HOUSE = ROOT / "docs" / "architecture.md"
README = ROOT / "README.md"


def dotted(path: Path) -> str:
    """neva.room.module of a file."""
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_files_and_functions_stay_small() -> None:
    """Files have at most 400 lines; a function's body, without its docstring, at most 60."""
    large = {f"{p}: {n}" for p in MODULES if (n := len(p.read_text().splitlines())) > 400}
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                told = ast.get_docstring(node) is not None and len(node.body) > 1
                lines = int(node.body[-1].end_lineno or 0) - node.body[int(told)].lineno + 1
                if lines > 60:
                    large.add(f"{path.name}, {node.name}: {lines}")
    assert large == set()


def test_every_file_says_why_it_exists() -> None:
    assert {str(p) for p in MODULES if not ast.get_docstring(tree(p))} == set()
    rooms = {p.parent for p in MODULES}
    assert {str(room) for room in rooms if not (room / "__init__.py").is_file()} == set()


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == neva.__version__


def imported(path: Path) -> set[str]:
    """Modules that a file imports when it is imported itself."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(tree(path).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        waiting.extend(ast.iter_child_nodes(node))
    return found


def needing_torch(graph: Mapping[str, set[str]]) -> set[str]:
    """Modules that import torch, themselves or by another of ours."""
    found = {name for name, uses in graph.items() if {u.split(".")[0] for u in uses} & set(TORCH)}
    while more := {name for name, uses in graph.items() if uses & found} - found:
        found |= more
    return found


def torch_rooms() -> re.Pattern[str]:
    """What architecture.md lists: `train.*`, `engine.torch_*`, and files of `model`."""
    (said,) = re.findall(r"\*\*What imports torch\*\*:(.*?)nothing else", HOUSE.read_text(), re.S)
    rooms = re.findall(r"`([a-z_]+\.[a-z_.*]+)`", said)
    (files,) = re.findall(r"\(`([a-z_ \n]+)`\)", said)
    names = [*rooms, *(f"model.{file}" for file in files.split())]
    return re.compile("|".join("neva." + n.replace(".", r"\.").replace("*", ".*") for n in names))


def test_torch_is_imported_where_the_plan_says() -> None:
    listed = torch_rooms()
    real = needing_torch({dotted(path): imported(path) for path in MODULES})
    assert len(real) > 10
    assert {name for name in real if not listed.fullmatch(name)} == set(), "not in architecture.md"
    for pattern in listed.pattern.split("|"):
        assert any(re.fullmatch(pattern, name) for name in real), f"{pattern} needs no torch"


def above() -> dict[str, set[str]]:
    """Room -> the rooms above it, from architecture.md's "`a, b` < `c` < `d`"."""
    (said,) = re.findall(r"from the ground up:(.*?)\n\n", HOUSE.read_text(), re.S)
    over: dict[str, set[str]] = defaultdict(set)
    for chain in said.split(";"):
        floors = [re.findall(r"\w+", floor) for floor in chain.split("<")]
        for level, rooms in enumerate(floors):
            for room in rooms:
                over[room] |= {name for floor in floors[level + 1 :] for name in floor}
    for _ in over:  # what is above a room above is above too
        for room in [*over]:
            over[room] |= {name for upper in over[room] for name in over[upper]}
    return over


def test_no_room_knows_a_room_above_it() -> None:
    over = above()
    assert "cli" in over["errors"] and "train" in over["model"] and "server" not in over["train"]
    found = set()
    for path in MODULES:
        room = dotted(path).split(".")[1:2]
        for node in ast.walk(tree(path)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            used = {name.split(".")[1] for name in names if name.startswith("neva.")}
            if room and used & over[room[0]]:
                found.add(f"{dotted(path)} knows {used & over[room[0]]}")
    assert found == set()


def test_every_room_is_in_the_plan() -> None:
    plan = HOUSE.read_text()
    rooms = {path.name for path in SRC.iterdir() if (path / "__init__.py").is_file()}
    assert {room for room in rooms if f"\n| `{room}` |" not in plan} == set()


PICKLES = ("torch.load", "torch.save", "np.load", "numpy.load")
WARY = SRC / "model" / "importing" / "pickles.py"


def wary_loads(path: Path) -> set[ast.AST]:
    """Of the one file that may: calls of torch's reader that knows tensors and runs nothing."""
    return {
        node.func
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"
        for given in node.keywords
        if given.arg == "weights_only" and ast.unparse(given.value) == "True" and path == WARY
    }


def test_no_pickle() -> None:
    """Neither a pickle module nor a loader that reads pickles, but for `wary_loads`."""
    bad = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    found = set()
    for path in MODULES:
        for node in ast.walk(tree(path)):
            names: set[str] = set()
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = {node.module.split(".")[0]}
            elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                found.add(f"{path.name}: allow_pickle")
            elif isinstance(node, ast.Attribute) and ast.unparse(node) in PICKLES:
                if node not in wary_loads(path):
                    found.add(f"{path.name}: {ast.unparse(node)}")
            elif isinstance(node, ast.Call) and "safe_globals" in ast.unparse(node.func):
                found |= {ast.unparse(word) for word in node.args} - {"[io.BytesIO]"}
            found |= {f"{path.name}: {name}" for name in names & bad}
    assert found == set()
    assert wary_loads(WARY)


# What is committed

# Written apart, so that this file does not find itself.
HOSTS = re.compile(
    r"//[\w.-]*(?:pypi|pythonhosted|npmjs|crates|debian|huggingface|anaconda)"
    + r"\.(?:org|io|co|com)"
)
# People in tests of what may leak are called ann.
PLACES = re.compile(r"(?<![\w.])/(?:home|Users|root|work)/(?!ann/)[\w.-]+" + r"/|[A-Z]:\\Users\\")


def texts() -> Iterator[tuple[str, str]]:
    """(name, content) of the tracked text files."""
    for name in tracked():
        data = (ROOT / name).read_bytes()
        if b"\0" not in data[:8192] and len(data) < 2**22:
            yield name, data.decode("utf-8", "replace")


def test_no_registry_and_no_machine_is_named() -> None:
    found = set()
    for name, text in texts():
        found |= {f"{name}: {match[0]}" for match in HOSTS.finditer(text)}
        found |= {f"{name}: {match[0]}" for match in PLACES.finditer(text)}
    assert found == set()


def test_no_file_is_too_large_for_its_host() -> None:
    large = {name for name in tracked() if (ROOT / name).stat().st_size >= 95_000_000}
    assert large == set()


# The documents' requests, sent


def sent(path: Path, word: str, folder: Path) -> str:
    """What the shell block with `word` prints, asked of the test double instead of port 8000."""
    sys.path.append(str(ROOT / "tests" / "server"))
    from echo_engine import EchoEngine
    from server_house import png, serving

    (script,) = (code for code in fences(path, "bash") if word in code)
    (folder / "picture.png").write_bytes(png(8, 6))
    with serving(EchoEngine()) as live:
        code = script.replace("http://127.0.0.1:8000", live.url)
        assert code != script
        done = subprocess.run(["bash", "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_readmes_curl_is_answered(tmp_path: Path) -> None:
    said = json.loads(sent(README, "curl", tmp_path))["choices"][0]["message"]["content"]
    assert "[(8, 6) [255, 0, 0]] '\\nWhat is this?'" in said


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_manuals_conversation_goes_on(tmp_path: Path) -> None:
    said = sent(ROOT / "docs" / "serving.md", "previous_response_id", tmp_path)
    assert "My name is Ann." in json.loads(said)["output"][0]["content"][0]["text"]
