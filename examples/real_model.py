"""Dictionaries of a real model and tested circuits in them, by one command that goes on where it was stopped.

    python examples/real_model.py gemma-3-270m --layers 4,8,12 --k 192 --tokens 1000000 \\
        --stories STORIES.jsonl --paragraphs PARAGRAPHS.jsonl --out gemma

Four steps, each of which keeps what it has in a folder of its own: text (mixed_text.py), dictionaries trained on it and
fine-tuned together, a study of circuits for the agreement tasks, one for indirect objects. What a step runs is printed,
so that it can be run by itself. The same command goes on where it was stopped, and measures nothing twice.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from mixed_text import write_mixed_text

AGREEMENT = ("sva-nounpp", "sva-within-rc", "sva-simple", "sva-rc")
METHODS = ("attribution patching, signed", "EAP-IG inputs, signed", "random")


def gossamer(*arguments: object) -> None:
    """Run a command of gossamer; where it fails it has said why, and nothing follows."""
    words = [str(one) for one in arguments]
    print("gossamer " + shlex.join(words), flush=True)
    code = subprocess.run([sys.executable, "-m", "gossamer", *words], check=False).returncode
    if code:
        raise SystemExit(code)


def train(given: argparse.Namespace, text: Path) -> Path:
    """Dictionaries at the layers that are given, fine-tuned together; returns the folder that they are in."""
    folder = given.out / "training"
    told = ["--layers", given.layers, "--text", text, "--n-latents", given.n_latents, "--k", given.k]
    told += ["--tokens", given.tokens, "--context", 64, "--encoder-scale", 0.5, "--sensitivity-rows", 64]
    told += ["--end-to-end", "--task", "ioi", "-n", given.prompts, "--split-by", "word", "--similar-words", 64]
    told += ["--finetune-tokens", given.tokens // 20, "--dtype", "float32", "--out", folder]
    gossamer("train", given.model, *told)
    return folder / "dictionaries"


def study(given: argparse.Namespace, dictionaries: Path, name: str, tasks: tuple[str, ...], prompts: int) -> None:
    """Circuits of some tasks beside rankings and on bootstrap samples, with a report."""
    told = ["-d", dictionaries, *(word for task in tasks for word in ("-t", task)), "-n", prompts]
    told += ["--share", 0.9, "--most-nodes", 150, "--steps", given.steps, "--reruns", given.reruns]
    told += [*(word for method in METHODS for word in ("--compare", method)), "--dtype", "float32"]
    gossamer("study-circuits", given.model, *told, "--out", given.out / name)


def main() -> None:
    """Text, dictionaries, two studies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder or name, as for gossamer")
    parser.add_argument("--layers", required=True, help="residual streams after these, as 4,8,12")
    parser.add_argument("--stories", type=Path, required=True, help='one {"text": ...} a line')
    parser.add_argument("--paragraphs", type=Path, required=True, help='one {"text": ...} a line')
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n-stories", type=int, default=3000)
    parser.add_argument("--n-sentences", type=int, default=20000)
    parser.add_argument("--tokens", type=int, default=1_000_000, help="a twentieth as many are fine-tuned on")
    parser.add_argument("--n-latents", type=int, default=8192)
    parser.add_argument("--k", type=int, default=192, help="active latents of a token")
    parser.add_argument("--steps", type=int, default=50, help="gradient steps of a search")
    parser.add_argument("--reruns", type=int, default=2, help="searches on bootstrap samples, for stability")
    parser.add_argument("--prompts", type=int, default=512, help="of indirect objects; agreement has 5/16 as many")
    given = parser.parse_args()
    for file in (given.stories, given.paragraphs):
        if not file.is_file():
            parser.error(f"{file}: a file of texts expected, found none")
    given.out.mkdir(parents=True, exist_ok=True)
    text = given.out / "text.jsonl"
    write_mixed_text(text, given.stories, given.paragraphs, given.n_stories, given.n_sentences)
    dictionaries = train(given, text)
    study(given, dictionaries, "agreement", AGREEMENT, given.prompts * 5 // 16)
    study(given, dictionaries, "indirect-objects", ("ioi",), given.prompts)


if __name__ == "__main__":
    main()
