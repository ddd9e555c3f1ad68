"""Past days for Prometheus: each day's totals at the day's last second, as OpenMetrics with timestamps.

In two steps, so that a run may end anywhere and the next one goes on from there:

    ask      asks each customer's API a calendar month at a time, and keeps every good answer as a file
    write    makes the output of those files, once no answer is missing

What a day's answer means, which pairs are known and how a line looks is decided where it is for today, in `answer`,
`snapshot` and `exposition`: a day is shown as a scrape at its last second would have shown it. Days before the first
one that is wanted only teach which pairs are known on it, as a lookback does.
"""

import difflib
import itertools
import os
import shlex
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import IO, Final

from vcc_exporter import times
from vcc_exporter.answer import Answer, AnswerError, Days, Pair, Scope, read_days
from vcc_exporter.client import PollError, Session
from vcc_exporter.config import Customer
from vcc_exporter.exposition import Format, Rendered, head, render
from vcc_exporter.oneshot import Verdict, ask_projects, counted, each, no_list_words, why
from vcc_exporter.poll import months, questions, together
from vcc_exporter.snapshot import CustomerState, Moment, view, with_answer, with_lookback, with_names
from vcc_exporter.times import Clock
from vcc_exporter.vocabulary import DATA_FAMILIES, Result

MOST_DAYS: Final = 5 * 366
"""Of one run: more is rather a slip in a year than a wish, and the vendor would see hundreds of requests."""
FIRST_YEAR: Final = 2000
"""No call centre of the vendor's is older."""
_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)

SHOWS: Final = (
    "What backfill writes has each day's totals at the day's last second and nothing within the day: no curve, nothing "
    '"lately", no alert. Prometheus shows such a sample for 5 minutes only, so ask with last_over_time(...[1d]) or '
    "max_over_time(...[1d]). Days that Prometheus has scraped itself are not to be loaded once more."
)
"""What such history can show, and what not."""


class BackfillError(Exception):
    """What stands in the way; the message is for the person who must act."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which days, and the file that they go to."""

    first: date
    last: date
    output: Path

    @property
    def parts(self) -> Path:
        """The folder in which answers are kept until all are there."""
        return self.output.with_name(f"{self.output.name}.parts")

    @property
    def days(self) -> int:
        """How many days these are."""
        return (self.last - self.first).days + 1


def read_date(text: str) -> date:
    """Read a date such as 2026-01-31. Raises ValueError for anything else and for years that had no calls."""
    day = date.fromisoformat(text)
    if text != day.isoformat() or day.year < FIRST_YEAR:  # there are other spellings
        raise ValueError(text)
    return day


def chosen(customers: Sequence[Customer], names: Sequence[str]) -> list[Customer]:
    """Return the customers of these names, all where there are none. Raises BackfillError for an unknown name."""
    known = [customer.name for customer in customers]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise BackfillError(f"the config has no customer {name!r}; {hint}")
    return [customer for customer in customers if customer.name in names or not names]


def check(wanted: Wanted, customers: Sequence[Customer], now: datetime) -> None:
    """Raise BackfillError where the days are none that are over everywhere, or the output cannot be written."""
    if wanted.first > wanted.last:
        raise BackfillError(f"--from {wanted.first} is after --to {wanted.last}")
    if wanted.days > MOST_DAYS:
        raise BackfillError(
            f"from {wanted.first} to {wanted.last} is {wanted.days} days; at most {MOST_DAYS} at a time"
        )
    for customer in customers:
        today = times.local_date(customer.zone, now)
        if wanted.last >= today:
            raise BackfillError(
                f"--to {wanted.last} is not over yet for {customer.name} in {customer.zone.key}; "
                f"the last day that is over there is {today - _DAY}"
            )
    if not wanted.output.parent.is_dir():
        raise BackfillError(f"there is no folder {wanted.output.parent} for --output {wanted.output}")
    _refuse_to_overwrite(wanted.output)


def _refuse_to_overwrite(output: Path) -> None:
    if os.path.lexists(output):
        raise BackfillError(f"{output} exists already, and is not overwritten")


# Asking.


@dataclass(frozen=True, slots=True)
class Asked:
    """A customer all of whose answers are kept."""

    customer: Customer
    names: Mapping[int, str]
    """Of projects, as the API gives them."""
    requests: int
    """That were made for days; what an earlier run has kept needed none."""
    remarks: tuple[str, ...]
    """What is not as it should be; they quote nothing that came from outside."""


@dataclass(frozen=True, slots=True)
class _Part:
    """One answer: what it is about, and where it is kept."""

    first: date
    last: date
    target: str
    scope: Scope
    file: Path


def ask(
    customers: Sequence[Customer], wanted: Wanted, clock: Clock, progress: Callable[[int, int], None]
) -> Iterator[Asked | Verdict]:
    """Have every answer kept that is missing; a bad verdict where a customer's cannot be had.

    `progress` is told how many months of how many are there, all customers together, by one thread at a time.
    Raises BackfillError where nothing can be kept.
    """
    try:
        wanted.parts.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unwritable(wanted.parts, error) from None
    whole = sum(1 for customer in customers for _ in _plan(customer, wanted))
    done, lock = itertools.count(1), threading.Lock()

    def month_done() -> None:
        with lock:
            progress(next(done), whole)

    def work(customer: Customer, session: Session, clock: Clock) -> Asked | Verdict:
        return _ask_customer(customer, session, clock, wanted, month_done)

    return each(customers, clock, work, lambda _: None)


def _plan(customer: Customer, wanted: Wanted) -> Iterator[list[_Part]]:
    """Return the answers that are needed, month by month: a month's are those to the requests of a poll."""
    for first, last in months(wanted.first - customer.lookback_days * _DAY, wanted.last):
        yield [
            _Part(first, last, question.target(), scope, _file(customer, wanted, question.target()))
            for question, scope in questions(customer, first, last)
        ]


def _file(customer: Customer, wanted: Wanted, target: str) -> Path:
    """Name the file of an answer by everything that decides which answer it is."""
    text = f"{customer.url}\n{customer.subdomain}\n{target}"
    return wanted.parts / f"{sha256(text.encode()).hexdigest()}.json"


def _ask_customer(
    customer: Customer, session: Session, clock: Clock, wanted: Wanted, month_done: Callable[[], None]
) -> Asked | Verdict:
    requests, faults = 0, _Faults()
    try:
        names, no_names = _ask_names(session, clock)
        for month in _plan(customer, wanted):
            kept = [_kept(part) for part in month]
            requests += kept.count(None)
            pairs = zip(kept, month, strict=True)
            faults += _faults([found or _fetch(part, session, clock) for found, part in pairs], wanted)
            month_done()
    except PollError as error:
        return Verdict(customer.name, False, why(customer, session, clock, error))
    except OSError as error:
        return Verdict(customer.name, False, str(_unwritable(wanted.parts, error)))
    return Asked(customer, names, requests, tuple(filter(None, (no_names, *faults.words()))))


def _ask_names(session: Session, clock: Clock) -> tuple[Mapping[int, str], str]:
    """Ask how projects are called. Returns the names, and why there are none."""
    try:
        return {project: entry.name for project, entry in ask_projects(session, clock).items() if entry.name}, ""
    except PollError as error:
        return {}, f"projects that the config does not name are called by their ids: {no_list_words(error)}"


def _fetch(part: _Part, session: Session, clock: Clock) -> Days:
    """Ask for an answer and keep it. Raises PollError, and OSError where it cannot be kept."""
    body = session.ask(part.target, clock.now())
    try:
        found = _read(body, part)
    except AnswerError as error:
        words = session.redact(f"not a usable answer: {error}")
        raise PollError(Result.INVALID_RESPONSE, words) from None
    # The name is unlike any other, since two customers may be the same account.
    number, name = tempfile.mkstemp(".tmp", dir=part.file.parent)
    with os.fdopen(number, "wb") as file:
        file.write(body)
    Path(name).replace(part.file)
    return found


def _kept(part: _Part) -> Days | None:
    """Return a kept answer; None where there is none, or what is there is none."""
    try:
        return _read(part.file.read_bytes(), part)
    except (FileNotFoundError, AnswerError):
        return None


def _read(body: bytes, part: _Part) -> Days:
    """Read an answer. Raises AnswerError also for one of which no row is of the days that were asked for."""
    found = read_days(body, part.first, part.last, part.scope)
    if found.unplaced and not any(answer.rows for answer in found.answers.values()):
        first = found.unplaced[0]
        raise AnswerError(
            f"none of {counted(len(found.unplaced), 'row')} is of a day that was asked for: "
            f"{first.cause} ({first.example})"
        )
    return found


def _of_day(found: Sequence[Days], day: date) -> Answer | None:
    """Return what a poll on that day would have been told; None where it would have failed."""
    answers = [days.answers[day] for days in found]
    return together(answers) if all(answer.usable for answer in answers) else None


@dataclass(frozen=True, slots=True)
class _Faults:
    """What cannot be used of some answers."""

    causes: tuple[str, ...] = ()
    """One for each row. No row is quoted: an answer that an earlier run has kept may echo a key of that time."""
    lost: tuple[date, ...] = ()
    """Days of which rows came, and none can be used."""

    def __add__(self, other: "_Faults") -> "_Faults":
        return _Faults(self.causes + other.causes, self.lost + other.lost)

    def words(self) -> Iterator[str]:
        """Yield what is to be said of them."""
        if self.causes:
            yield f"{counted(len(self.causes), 'row')} cannot be used, the first for {self.causes[0]}"
        if self.lost:
            named = f"{self.lost[0]}{' the first' if len(self.lost) > 1 else ''}"
            yield f"no samples of {counted(len(self.lost), 'day')} of which no row can be used ({named})"


def _faults(found: Sequence[Days], wanted: Wanted) -> _Faults:
    """Look for what cannot be used of a month's answers."""
    days = [day for day in found[0].answers if day >= wanted.first]
    causes = [rejection.cause for answer in found for rejection in answer.unplaced]
    causes += [f"{r.cause} on {day}" for day in days for answer in found for r in answer.answers[day].rejections]
    return _Faults(tuple(causes), tuple(day for day in days if _of_day(found, day) is None))


# Writing.


@dataclass(frozen=True, slots=True)
class Written:
    """What the output holds."""

    series: int
    samples: int


def write(asked: Sequence[Asked], wanted: Wanted) -> Written:
    """Make the output of the answers that are kept, and remove these. Raises BackfillError."""
    try:
        with ExitStack() as stack:
            families = _scratch(stack, wanted)
            counts = [_spool(found, wanted, families) for found in asked]
            _publish(families, wanted)
        _clean_up(wanted.parts)
    except OSError as error:
        raise _unwritable(wanted.output, error) from None
    return Written(sum(series for series, _ in counts), sum(samples for _, samples in counts))


def _scratch(stack: ExitStack, wanted: Wanted) -> list[IO[bytes]]:
    """Open a file for each family that leaves nothing behind, however the program ends."""
    return [stack.enter_context(tempfile.TemporaryFile(dir=wanted.parts)) for _ in DATA_FAMILIES]


def _spool(asked: Asked, wanted: Wanted, families: Sequence[IO[bytes]]) -> tuple[int, int]:
    """Add one customer's lines to the families' files. Returns how many series and samples these are."""
    series = samples = 0
    with ExitStack() as stack:
        by_day = _scratch(stack, wanted)
        for last_second, rendered in _walk(asked, wanted):
            end = b" %d\n" % last_second.timestamp()
            for file, lines in zip(by_day, rendered.data, strict=True):
                file.write(lines.replace(b"\n", end))  # in a label it would be escaped
        for source, target in zip(by_day, families, strict=True):
            counts = _put_together(source, target)
            series, samples = series + counts[0], samples + counts[1]
    return series, samples


def _put_together(source: IO[bytes], target: IO[bytes]) -> tuple[int, int]:
    """Copy lines so that those of one series are together, as OpenMetrics wants them; their order stays.

    Only the ends of lines are held in memory, one family of one customer at a time.
    """
    tails: dict[bytes, bytearray] = {}
    samples = 0
    source.seek(0)
    for samples, line in enumerate(source, 1):  # noqa: B007 - it counts
        series, value, when = line.rsplit(b" ", 2)
        tails.setdefault(series, bytearray()).extend(b" %b %b" % (value, when))
    for series, tail in tails.items():
        target.writelines(series + end for end in tail.splitlines(keepends=True))
    return len(tails), samples


def _walk(asked: Asked, wanted: Wanted) -> Iterator[tuple[datetime, Rendered]]:
    """Go through a customer's days as its polls would have. Yields each day's last second and what it shows."""
    customer = asked.customer
    state = with_names(CustomerState(customer), asked.names, times.day_start(customer.zone, wanted.first))
    before: deque[frozenset[Pair]] = deque(maxlen=customer.lookback_days)
    rendered: Rendered | None = None
    for day, answer, pairs in _answers(customer, wanted):
        last_second = times.day_start(customer.zone, day + _DAY) - _SECOND
        # Zones have left out a date to change sides of the date line.
        exists = times.local_date(customer.zone, last_second) == day
        if day >= wanted.first and answer and exists:
            moment = Moment(last_second, 0.0)
            if customer.lookback_days:
                state = with_lookback(state, day, frozenset().union(*before), last_second)
            state = with_answer(state, day, answer, moment, 0.0)
            rendered = render(view(state, moment), rendered)
            yield last_second, rendered
        before.append(pairs)


def _answers(customer: Customer, wanted: Wanted) -> Iterator[tuple[date, Answer | None, frozenset[Pair]]]:
    """Yield for each day, those before the wanted ones included, its answer and the pairs that have a row."""
    for month in _plan(customer, wanted):
        found = [_still_kept(part) for part in month]
        for day in found[0].answers:
            yield day, _of_day(found, day), frozenset().union(*(days.pairs[day] for days in found))


def _still_kept(part: _Part) -> Days:
    found = _kept(part)
    if found is None:
        raise BackfillError(f"{part.file} is gone; run the same command again")
    return found


def _publish(families: Iterable[IO[bytes]], wanted: Wanted) -> None:
    """Write the families one after another, and give the whole its name."""
    whole = wanted.parts / "output.tmp"
    with whole.open("wb") as output:
        for family, lines in zip(DATA_FAMILIES, families, strict=True):
            if lines.tell():
                output.write(head(family, Format.OPENMETRICS))
                lines.seek(0)
                shutil.copyfileobj(lines, output)
        output.write(Format.OPENMETRICS.end)
    _refuse_to_overwrite(wanted.output)
    whole.rename(wanted.output)


def _clean_up(parts: Path) -> None:
    """Remove what this program has kept, and the folder unless somebody else has put something there."""
    with suppress(OSError):  # the output is there, and whoever looks for the rest finds it
        for file in parts.iterdir():
            if file.suffix in {".json", ".tmp"}:
                file.unlink()
        parts.rmdir()


def _unwritable(path: Path, error: OSError) -> BackfillError:
    return BackfillError(f"{path} cannot be written: {error.strerror}")


def summary(asked: Sequence[Asked], wanted: Wanted, written: Written) -> str:
    """Say what was written and how it is loaded."""
    requests = sum(found.requests for found in asked)
    what = (
        f"{wanted.output}: {counted(wanted.days, 'day')} of {counted(len(asked), 'customer')}, "
        f"{written.series} series, {counted(written.samples, 'sample')}; {counted(requests, 'request')} made\n"
    )
    if not written.samples:
        return f"{what}No queue is known on these days, so that there is nothing to load.\n"
    return (
        f"{what}Load it with\n"
        f"    promtool tsdb create-blocks-from openmetrics {shlex.quote(str(wanted.output))} DATA_DIR\n"
        "into the folder of Prometheus' --storage.tsdb.path. Its --storage.tsdb.retention.time must reach back to\n"
        f"{wanted.first}, or it deletes these days again.\n"
    )
