"""Look for bytes that break a door of the exporter, guided by coverage: `python tools/fuzz.py --help`.

What breaks one is written into `tests/fuzz`, where the tests find it: mend the fault and check both in. What widened
the coverage is kept in `.fuzz` for the next search.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

DOORS: Final = ("api", "config", "web")
SEEDS: Final = {"api": ["tests/data/answers"], "config": ["tests/data/config/good", "tests/data/config/bad"], "web": []}
LONGEST: Final = {"api": 800, "config": 8192, "web": 4096}
ONE_INPUT_S: Final = 60
"""What takes longer is a fault, too."""


def search(door: str, options: list[str]) -> None:
    """Search one door until the options say that it is enough; ends the process."""
    import atheris  # noqa: PLC0415 - not on every machine

    with atheris.instrument_imports(include=["vcc_exporter"]):
        import doors  # noqa: PLC0415 - to be instrumented

    with doors.DOORS[door]() as send:
        atheris.Setup([sys.argv[0], *options], send)
        atheris.Fuzz()


def words(door: str) -> list[str]:
    """Return what an input is made of, for the fuzzer to put in as a whole."""
    from vcc_exporter.config_schema import SECTIONS  # noqa: PLC0415 - as in `search`
    from vcc_exporter.vocabulary import STATISTICS  # noqa: PLC0415

    if door == "api":
        keys = ["response", "errors", "projectid", "queueid", "date", "name", *(s.key for s in STATISTICS)]
        return [*(f'"{key}": ' for key in keys), "20260311", "1e999", "null", "[]", "{}", "\\ud800"]
    if door == "config":
        keys = sorted({key for section in SECTIONS.values() for key in section.model_fields})
        values = ["Europe/Budapest", "1m", "80%", "mon-fri", "08:00-18:00", "HU", "* 7-20 * * mon-fri", "<<: *a", "&a "]
        return [*(f"{key}: " for key in keys), *values, "\n    ", "\n  - ", "[", "]", "{", "}", ", ", "'", '"']
    paths = ["/metrics", "/", "/-/healthy", "/-/ready", "/-/reload", "?customer[]=acme", "%00", "http://x/"]
    headers = [
        "Accept: application/openmetrics-text;version=1.0.0",
        "Accept-Encoding: gzip;q=0",
        "Content-Length: 1",
        ";q=",
    ]
    odd = ["Transfer-Encoding: chunked", "Expect: 100-continue", "Connection: upgrade", "Upgrade: websocket", "Host: x"]
    return [*("GET ", "POST ", "HEAD ", " HTTP/1.1\r\n", " HTTP/1.0\r\n", "\r\n", "\r\n\r\n"), *paths, *headers, *odd]


def written_words(door: str) -> str:
    """Return the words as libFuzzer reads them."""
    quoted = ("".join(f"\\x{octet:02x}" for octet in word.encode()) for word in words(door))
    return "".join(f'"{word}"\n' for word in quoted)


def run(door: str, seconds: int | None, runs: int | None, kept: Path) -> int:
    """Search one door in a process of its own. Returns its exit status, 0 where nothing was found."""
    found = ROOT / "tests" / "fuzz" / door
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".dict") as dictionary:
        dictionary.write(written_words(door))
        dictionary.flush()
        options = [
            *(f"-max_total_time={seconds}" for _ in [0] if seconds),
            *(f"-runs={runs}" for _ in [0] if runs),
            *("-seed=1" for _ in [0] if runs),
            f"-dict={dictionary.name}",
            f"-max_len={LONGEST[door]}",
            f"-timeout={ONE_INPUT_S}",
            f"-artifact_prefix={found}/",
            "-print_final_stats=1",
            *(str(path) for path in (kept, found, *(ROOT / seed for seed in SEEDS[door]))),
        ]
        command = [sys.executable, __file__, "--search", door, *options]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603 - ours
    inputs = re.search(r"number_of_executed_units: *([0-9]+)", done.stderr)
    covered = re.findall(r"cov: ([0-9]+)", done.stderr)
    if done.returncode or not inputs:
        sys.stderr.write(done.stderr[-20_000:] + done.stdout[-20_000:])
    sys.stdout.write(
        f"{door}: {inputs[1] if inputs else '?'} inputs, {covered[-1] if covered else '?'} places covered, "
    )
    sys.stdout.write(f"found something: see {found}\n" if done.returncode else "nothing found\n")
    sys.stdout.flush()
    return done.returncode


def main() -> int:
    """Search the doors one after the other. Returns 1 where something was found."""
    if sys.argv[1:2] == ["--search"]:
        search(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("doors", nargs="*", metavar="DOOR", help=f"of {', '.join(DOORS)}; default: all")
    parser.add_argument("--seconds", type=int, default=3600, help="how long in all; default %(default)s")
    parser.add_argument("--runs", type=int, help="instead: so many inputs a door, always the same ones")
    parser.add_argument("--kept", type=Path, default=ROOT / ".fuzz", help="where to keep what widens the coverage")
    given = parser.parse_args()
    if odd := set(given.doors) - set(DOORS):
        parser.error(f"no door: {', '.join(sorted(odd))}")
    chosen = given.doors or list(DOORS)
    seconds = None if given.runs else max(given.seconds // len(chosen), 1)
    statuses = [run(door, seconds, given.runs, given.kept / door) for door in chosen]
    return int(any(statuses))


if __name__ == "__main__":
    raise SystemExit(main())
