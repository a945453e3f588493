"""History in several files, imported and published: `millrace import` beside `millrace publish`.

    pip install pyarrow
    millrace bench training --keep DIR && python import_publish.py MILLRACE DIR [FILES [TIMES]]

Cuts the clicks that `bench training --keep DIR` leaves there into so many files (8), in their order, as
daily exports would be, and sends them and the profiles to a server on an empty folder, in turn by each
of the two commands. `import` merges files in the order in which their rows were known; `publish` sends
them side by side, and what comes behind later events is repaired.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

ADDRESS = "127.0.0.1:7588"
KNOWN_AT = ["--known-at", "clicks=known_at", "--known-at", "profiles=known_at"]


def cut(folder: Path, files: int, into: Path) -> list[str]:
    """The sources of both streams, as arguments."""
    clicks = pq.read_table(folder / "clicks.parquet")
    sources = [f"profiles={folder / 'profiles.parquet'}"]
    for number in range(files):
        start, end = (clicks.num_rows * at // files for at in (number, number + 1))
        path = into / f"clicks-{number}.parquet"
        pq.write_table(clicks.slice(start, end - start), path)
        sources.append(f"clicks={path}")
    return sources


def run(millrace: str, command: str, sources: list[str], folder: Path) -> None:
    """Sends everything to a server of its own and prints how fast that went."""
    call = [millrace, "--endpoint", f"http://{ADDRESS}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([millrace, "dev", "--listen", ADDRESS, "--data", folder], **quiet)
    try:
        while subprocess.run([*call, "status"], **quiet).returncode != 0:
            time.sleep(0.05)
        catalog = Path(__file__).parents[3] / "examples" / "clickprofile.yaml"
        subprocess.run([*call, "apply", catalog], check=True, **quiet)
        known_at = KNOWN_AT if command == "import" else []
        began = time.monotonic()
        told = subprocess.run(
            [*call, command, *sources, *known_at, "-o", "json"], check=True, capture_output=True
        )
        seconds = time.monotonic() - began
    finally:
        server.kill()
        server.wait()
    told = json.loads(told.stdout)
    rate = told["sent"] / seconds / 1e3
    print(f"{command}: {rate:.0f} k facts/s, {told['rows_repaired']:,} joined rows repaired")


def main() -> None:
    """Each command so many times (3), in turn."""
    millrace, folder = sys.argv[1], Path(sys.argv[2])
    files = int(sys.argv[3]) if len(sys.argv) > 3 else 8
    times = int(sys.argv[4]) if len(sys.argv) > 4 else 3
    with tempfile.TemporaryDirectory() as scratch:
        sources = cut(folder, files, Path(scratch))
        for number in range(times):
            for command in ("import", "publish"):
                run(millrace, command, sources, Path(scratch) / f"{command}-{number}")


if __name__ == "__main__":
    main()
