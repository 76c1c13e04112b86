"""What install.pyz runs: ``python3 install.pyz verify DIR``, ``… install DIR --into FOLDER``.

Standard library only: it is for a machine that has a Python and nothing else.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from localfusion.bundle.check import Bundle, verify
from localfusion.bundle.install import Installed, install
from localfusion.errors import BundleError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line of install.pyz and return its exit code."""
    parser = argparse.ArgumentParser(prog="install.pyz", description="A bundle of localfusion.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("verify", "read every byte"), ("install", "verify, then install")):
        command = commands.add_parser(name, help=text)
        command.add_argument("folder", type=Path, help="the bundle, or the folder of its volumes")
        if name == "install":
            command.add_argument("--into", type=Path, required=True, help="where to install")
    given = parser.parse_args(arguments)
    try:
        if given.command == "verify":
            lines = [describe_bundle(verify(given.folder))]
        else:
            lines = describe(install(given.folder, given.into, say=tell))
    except BundleError as error:
        sys.stderr.write(f"install.pyz: {error}\n")
        return error.exit_code
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def describe_bundle(bundle: Bundle) -> str:
    """Say in a line what was verified."""
    return f"ok  {len(bundle.manifest.files)} files  {bundle.digest}"


def describe(installed: Installed) -> list[str]:
    """Say in lines what an install came to."""
    what = "is in use already" if installed.was_there else "is in use now"
    lines = [f"{installed.folder} {what}"]
    lines += [f"{path} is not used any more; delete it when you like" for path in installed.older]
    return [*lines, f"next: {installed.folder.parent / 'current' / 'bin' / 'localfusion'} ask …"]


def tell(step: str) -> None:
    """Tell whoever waits what goes on."""
    sys.stderr.write(f"{step} …\n")
