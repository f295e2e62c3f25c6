"""Stage 2 in rounds: records of their own each, the adapter and projector of the round before.

    python -m zoo.rounds --adapter zoo/work/adapter     # go on from the committed adapter
    python -m zoo.rounds                                # from a fresh one, as `zoo.make` does

Records are cheap and seeing one twice teaches less than seeing another, so a round is told how many
of each kind it has, and the next asks more of what the last one's answers lacked. A round leaves in
``WORK/rounds/NAME/`` its records (``stage2``), its run (``run``), and the checkpoint that the next
one starts from (``grafted``). What is there is not made again; a run that was cut off resumes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from neva.model.checkpoint import Checkpoint, read_tensors
from neva.model.files import carry_files
from neva.model.keys import PROJECTOR
from neva.model.weights import write_tensors
from zoo import chatter
from zoo.instructions import InstructionPlan, build, changed

LICENCE = (
    "public domain, CC0-1.0, MIT, Apache-2.0, OFL-1.1, CC-BY-3.0 and 4.0: see the table in "
    "zoo/README.md"
)
RANK = 32


@dataclass(frozen=True)
class Round:
    """One round: its records by kind (`zoo.instructions`), its optimiser steps of 16, its rates."""

    name: str
    records: str
    talk: tuple[int, int]
    """Prompts about things and of the base LM's own (`zoo.chatter`), new ones in each round: the
    same thousand told three times cost .4 nats a token (zoo/LOG.md, version 12)."""
    steps: int
    rate: float
    projector_rate: float
    """Far below the adapter's, or the LM would learn to read words that move away: the features of
    `zoo.recall` are twenty times as large as a CLIP's usually are, and so is what a step moves.
    1e-12 moves nothing that bfloat16 shows, and the packed projector stays the file it was."""
    hold: str = ""
    """What of the adapter stays (``--lora-hold``): its bytes stay as they are packed, and a version
    costs the repository's history only the rest."""

    def plan(self) -> InstructionPlan:
        """The numbers of `records`; ValueError for one that no plan has."""
        return changed(InstructionPlan(), dict(word.split("=") for word in self.records.split()))


ROUNDS = (
    Round(
        "wide",
        "vqa=350 names=3500 strange=1700 families=100 icon_names=80 emoji=150 icons=20 monos=40 "
        "flags=600 shapes=120 glyphs=900 unsure=600 capitals=60 sums=30 chatter=1 places=900 "
        "sides=450 crowds=1300 reasoning=1000 mixed=1500 riddles=350 seed=3434",
        talk=(200, 500),
        steps=890,
        rate=6e-4,
        projector_rate=2e-6,
    ),
    Round(
        "even",
        "vqa=200 names=1400 strange=1500 everyday=700 families=60 icon_names=20 emoji=120 icons=8 "
        "monos=16 flags=300 shapes=60 glyphs=1100 coins=60 unsure=560 capitals=30 sums=20 "
        "chatter=1 places=300 sides=120 crowds=640 reasoning=600 mixed=700 riddles=120 seed=3838",
        talk=(200, 500),
        steps=540,
        rate=4e-4,
        projector_rate=1e-12,
        hold="lora_A",
    ),
    Round(
        "counts",
        "vqa=40 names=250 strange=250 everyday=160 families=20 icon_names=5 emoji=10 icons=2 "
        "monos=4 flags=60 shapes=20 glyphs=260 coins=12 unsure=170 capitals=8 sums=5 chatter=1 "
        "places=80 sides=40 crowds=420 reasoning=90 mixed=420 riddles=20 seed=3939",
        talk=(40, 90),
        steps=145,
        rate=2e-4,
        projector_rate=1e-12,
        hold="lora_A",
    ),
    Round(
        "totals",
        "vqa=20 names=120 strange=100 everyday=80 families=8 icon_names=2 emoji=4 icons=1 "
        "monos=2 flags=30 shapes=10 glyphs=110 coins=5 unsure=90 capitals=4 sums=3 chatter=1 "
        "places=30 sides=15 crowds=150 reasoning=70 mixed=120 totals=320 riddles=10 seed=4040",
        talk=(20, 50),
        steps=85,
        rate=2e-4,
        projector_rate=1e-12,
        hold="lora_A",
    ),
    Round(
        "sizes",
        "vqa=30 names=250 strange=320 everyday=160 families=10 icon_names=4 emoji=8 icons=2 "
        "monos=4 flags=60 shapes=30 glyphs=200 coins=8 unsure=280 capitals=6 sums=4 chatter=1 "
        "places=60 sides=40 crowds=180 reasoning=110 mixed=200 totals=70 riddles=15 sizes=960 "
        "seed=4141",
        talk=(40, 90),
        steps=200,
        rate=3e-4,
        projector_rate=1e-12,
        hold="lora_A,gate_proj,up_proj",
    ),
    Round(
        "larger",
        "vqa=25 names=220 strange=260 everyday=140 families=8 icon_names=3 emoji=6 icons=2 "
        "monos=3 flags=50 shapes=25 glyphs=170 coins=6 unsure=170 capitals=4 sums=3 chatter=1 "
        "places=40 sides=40 crowds=120 reasoning=70 mixed=130 totals=50 riddles=10 sizes=1900 "
        "seed=4242",
        talk=(30, 70),
        steps=226,
        rate=4e-4,
        projector_rate=1e-12,
        hold="lora_A,gate_proj,up_proj",
    ),
    Round(
        "octaves",
        "vqa=70 names=720 strange=640 everyday=300 families=24 icon_names=8 emoji=24 icons=4 "
        "monos=6 flags=130 shapes=60 glyphs=380 coins=14 unsure=540 capitals=12 sums=6 chatter=1 "
        "places=140 sides=80 crowds=420 reasoning=200 mixed=420 totals=120 riddles=24 sizes=1800 "
        "seed=4343",
        talk=(80, 180),
        steps=400,
        rate=4e-4,
        projector_rate=1e-12,
        hold="lora_A,gate_proj,up_proj,down_proj",
    ),
    Round(
        "level",
        "vqa=20 names=250 strange=280 everyday=190 families=8 icon_names=3 emoji=6 icons=1 "
        "monos=2 flags=45 shapes=25 glyphs=170 coins=5 unsure=110 capitals=4 sums=2 chatter=1 "
        "places=45 sides=30 crowds=210 reasoning=60 mixed=130 totals=90 riddles=8 sizes=560 "
        "seed=4444",
        talk=(15, 25),
        steps=140,
        rate=2.5e-4,
        projector_rate=1e-12,
        hold="lora_A,gate_proj,up_proj,down_proj",
    ),
    Round(
        "seldom",
        "vqa=60 names=1000 strange=900 everyday=350 families=24 icon_names=8 emoji=24 icons=4 "
        "monos=6 flags=140 shapes=60 glyphs=360 coins=14 unsure=640 capitals=12 sums=6 chatter=1 "
        "places=150 sides=80 crowds=380 reasoning=440 mixed=380 totals=110 riddles=30 sizes=2100 "
        "seed=4545",
        talk=(80, 180),
        steps=470,
        rate=4e-4,
        projector_rate=1e-12,
        hold="lora_A,gate_proj,up_proj,down_proj",
    ),
    Round(
        "shown",
        "vqa=50 names=900 strange=800 everyday=260 families=16 icon_names=6 emoji=20 icons=3 "
        "monos=5 flags=120 shapes=80 glyphs=300 coins=10 unsure=420 capitals=10 sums=5 chatter=1 "
        "places=120 sides=60 crowds=300 reasoning=120 mixed=320 totals=110 riddles=16 sizes=420 "
        "shown=760 seed=4646",
        talk=(60, 140),
        steps=330,
        rate=3e-4,
        projector_rate=1e-12,
        hold="lora_A,gate_proj,up_proj,down_proj",
    ),
)
"""*wide* is version 14's, *even* to *totals* made version 15 of it, *sizes* and *larger* version
16 (zoo/LOG.md), each for what the one before left wrong, *octaves* and *level* version 17, whose
tokens tell sizes (`zoo.sizing`), *seldom* version 18, *shown* version 19. After *wide* no projector
moves and A is held, so that B is all that changes, at last of attention alone. A fresh adapter
needs far more of the first."""


@dataclass(frozen=True)
class Place:
    """Where a round's things are."""

    work: Path
    name: str

    @property
    def folder(self) -> Path:
        """All of it."""
        return self.work / "rounds" / self.name

    @property
    def run(self) -> Path:
        """The run of ``neva finetune``: ``final``, ``adapter``, metrics."""
        return self.folder / "run"

    @property
    def done(self) -> bool:
        """Whether the run is whole."""
        return (self.run / "final" / "config.json").is_file()


def grafted(checkpoint: Path, lender: Path, out: Path) -> Path:
    """``checkpoint`` with the projector of ``lender``, whose LM has its adapter merged."""
    opened, other = Checkpoint.open(checkpoint), Checkpoint.open(lender)
    theirs = read_tensors(other)
    tensors = dict(read_tensors(opened))
    tensors |= {name: theirs[name] for name in theirs if name.startswith(PROJECTOR)}
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    carry_files(checkpoint, out)
    learnt = other.provenance.datasets  # of the adapter that goes on as well
    replace(opened.provenance, datasets=learnt).write(out)
    write_tensors(out, tensors)
    return out


def mix(place: Place, one: Round) -> Path:
    """Write the mix file of a round: its records by a name of their own, for the provenance."""
    stage = place.folder / "stage2"
    told = {"path": "chat.json", "images": "images", "name": f"neva-nano, {one.name}",
            "version": f"seed {one.plan().seed}", "licence": LICENCE}  # fmt: skip
    file = stage / "mix.json"
    file.write_text(json.dumps({"datasets": [told]}, indent=1) + "\n", encoding="utf-8")
    return file


def command(place: Place, one: Round, start: Path, adapter: Path | None) -> list[str]:
    """The call of ``neva finetune`` of a round."""
    options: Mapping[str, object] = {
        "--data": mix(place, one),
        "-o": place.run,
        "--batch-size": 16,
        "--save-every": 100,
        "--learning-rate": one.rate,
        "--projector-learning-rate": one.projector_rate,
        "--max-length": 512,
        "--lora-rank": RANK,
        "--lora-alpha": 2 * RANK,
        "--max-steps": one.steps,
    }
    words = ["finetune", str(start), "--lora"]
    words += [word for pair in options.items() for word in map(str, pair)]
    words += ["--lora-from", str(adapter)] if adapter else []
    words += ["--lora-hold", one.hold] if one.hold and adapter else []
    words += ["--resume"] if (place.run / "metrics.jsonl").is_file() else []
    return [sys.executable, "-m", "neva", *words]


def train(work: Path, start: Path, rounds: tuple[Round, ...], adapter: Path | None = None) -> Path:
    """Make what is missing of all rounds, the first on ``start``; the last one's run."""
    first = start
    for one in rounds:
        place = Place(work, one.name)
        if not place.done:
            plan = one.plan()
            things, own = one.talk
            if plan.chatter:
                chatter.build(work, things, own, plan.seed, place.folder / "chatter.json")
            build(work, plan, place.folder / "stage2")
            words = command(place, one, start, adapter)
            print("+", " ".join(words), flush=True)
            subprocess.run(words, check=True)
        adapter = place.run / "adapter"
        if one is not rounds[-1]:
            start = grafted(first, place.run / "final", place.folder / "grafted")
    return place.run


def main(argv: list[str] | None = None) -> int:
    """Train all rounds of stage 2."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("zoo/work"))
    parser.add_argument("--adapter", type=Path, help="peft's directory to start from")
    parser.add_argument("--start", type=Path, help="the checkpoint; default WORK/pretrain/final")
    names = [one.name for one in ROUNDS]
    parser.add_argument("--first", choices=names, default=names[0], help="leave out those before")
    o = parser.parse_args(argv)
    rounds = ROUNDS[names.index(o.first) :]
    print(train(o.work, o.start or o.work / "pretrain" / "final", rounds, o.adapter))
    return 0


if __name__ == "__main__":
    sys.exit(main())
