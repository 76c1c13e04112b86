"""Speaks with the hub, in a child process that can be stopped. Imports nothing of ours.

``python -P hub_child.py info REPOSITORY REVISION`` prints the commit, every file's size and digest;
``python -P hub_child.py fetch REPOSITORY COMMIT FOLDER FILE…`` downloads, continuing what is there.
"""

import json
import sys


def main(arguments: list[str]) -> None:
    verb, repository, revision, *rest = arguments
    try:
        if verb == "info":
            sys.stdout.write(json.dumps(describe(repository, revision)))
        else:
            fetch(repository, revision, rest[0], rest[1:])
    except Exception as error:  # noqa: BLE001  process edge: one line for the parent
        lines = str(error).strip().splitlines() or [""]
        sys.stderr.write(f"{type(error).__name__}: {lines[0]}\n")
        sys.exit(1)


def describe(repository: str, revision: str) -> dict[str, object]:
    """Ask which commit a revision is now, and what is in it."""
    from huggingface_hub import HfApi

    info = HfApi().model_info(repository, revision=revision, files_metadata=True, timeout=30)
    files = [
        {
            "name": file.rfilename,
            "size": file.size or 0,
            "sha256": file.lfs.sha256 if file.lfs is not None else None,
        }
        for file in info.siblings or []
    ]
    return {"commit": info.sha, "files": files}


def fetch(repository: str, commit: str, folder: str, names: list[str]) -> None:
    """Download some files of a commit."""
    from huggingface_hub import snapshot_download

    snapshot_download(
        repository, revision=commit, local_dir=folder, allow_patterns=names, max_workers=4
    )


if __name__ == "__main__":
    main(sys.argv[1:])
