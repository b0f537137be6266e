"""``cryoem VERB``: finds the module of a verb, runs it, and turns bad input into one message."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from cryoem.errors import InputError

# Listed, not discovered, and imported only when asked for: `cryoem --help` loads no torch. Each is
# a module of this package with `add_arguments(parser)` and `run(args)`; its docstring is its help.
VERBS = {
    "inspect": "what is in a particle file, volume or run folder; every problem found",
    "preflight": "the checks before a run: sign, CTF, pose convention, pixel size, images",
    "simulate": "data sets with ground truth from a map or a built-in motion",
    "preprocess": "write a crop as large contiguous shards for the fastest streaming",
    "backproject": "voxel reconstruction with half maps and FSC",
    "fsc": "Fourier shell correlation of two volumes: resolution, masks, corrected curve",
    "volumes": "decode volumes of a run at chosen latents",
    "evaluate": "compare a run with the ground truth: poses, volumes, latents",
}


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and the way to the help."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit status 2."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``cryoem`` with the given arguments (those of the process by default).

    Returns
    -------
    int
        The exit status: 0, 2 for bad input (its message is on stderr), 130 after Ctrl-C.
    """
    # read when torch is loaded: threads that spin while they wait slow down a shared machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    words = list(sys.argv[1:] if argv is None else argv)
    verb = _dispatcher().parse_args(words[:1]).verb
    try:
        module = importlib.import_module(f"cryoem.cli.{verb}")
        parser = Parser(
            prog=f"cryoem {verb}",
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(parser)
        module.run(parser.parse_args(words[1:]))
    except (InputError, OSError) as error:  # OSError: a full disk, a folder that is read-only
        print(f"cryoem {verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"cryoem {verb}: interrupted", file=sys.stderr)
        return 130
    return 0


def _dispatcher() -> Parser:
    width = max(map(len, VERBS))
    table = "\n".join(f"  {verb:<{width}}  {summary}" for verb, summary in VERBS.items())
    parser = Parser(
        prog="cryoem",
        usage="cryoem VERB ...",
        description=f"Tools around a reconstruction.\n\n{table}\n\ncryoem VERB --help says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=metadata.version("cryoem"))
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="one of the above")
    return parser


if __name__ == "__main__":
    sys.exit(main())
