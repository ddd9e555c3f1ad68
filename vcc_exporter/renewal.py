"""Keeps the rules in force as new as the web config on disk, and the files that it names.

Only what is in those files is taken over. The config is left alone until somebody asks for a reload: it may
be half edited when a certificate is renewed.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from vcc_exporter.config import Config
from vcc_exporter.faults import ConfigError, Fault
from vcc_exporter.guard import Guard, renewed
from vcc_exporter.loading import load_web_config
from vcc_exporter.web_config import Reading, WebConfig

log = logging.getLogger(__name__)


class Renewal:
    """The web config of one guard, and what became of it on disk."""

    def __init__(
        self, guard: Guard, path: Path, read_config: Callable[[], Config], tell: Callable[[bool], None]
    ) -> None:
        """`read_config` raises ConfigError; `tell` is called, in any thread, with whether the web config is good."""
        self._guard = guard
        self._path = path
        self._read_config = read_config
        self._tell = tell
        self._watch = Watch((path,))
        self._faults: tuple[Fault, ...] = ()
        """What was wrong when it was read last, and is told once."""

    def is_due(self) -> bool:
        """Look whether a file has changed; to be called every second or so, in any thread."""
        return self._watch.has_changed()

    def note(self, reading: Reading, taken: bool) -> None:
        """Take notice of a reading that somebody else has made and told of, and perhaps taken over."""
        self._watch.follow(reading.sources)
        if taken or reading.faults:  # else it is the config that was at fault
            self._faults = reading.faults

    async def renew(self) -> None:
        """Read the web config and take it over; where it has a fault nothing changes. One call at a time."""
        reading = await asyncio.to_thread(load_web_config, self._path)
        self._watch.follow(reading.sources)
        faults = reading.faults
        if reading.config:
            try:
                await self._take_over(reading.config)
            except ConfigError as error:
                faults = error.faults
        if faults and faults != self._faults:
            for fault in faults:
                log.error("web config not reloaded", extra={"problem": fault})
            await asyncio.to_thread(self._tell, False)
        elif self._faults and not faults:
            await asyncio.to_thread(self._tell, True)
        self._faults = faults

    async def _take_over(self, new: WebConfig) -> None:
        """Take over a good one. Raises ConfigError where it does not fit to the config in force."""
        old = self._guard.rules
        if new.digest == old.web.digest:
            return
        come = new.users.keys() - old.web.users.keys()
        rules = renewed(old, new, not come or await asyncio.to_thread(self._nobody_has_a_share))
        self._guard.follow(rules)
        log.info("web config reloaded", extra={"users": len(new.users), "tls": new.context is not None})
        if rules.waiting - old.waiting:
            log.warning(
                "new users of the web config see nothing until the config is reloaded",
                extra={"users": ", ".join(sorted(rules.waiting))},
            )

    def _nobody_has_a_share(self) -> bool:
        """Tell whether neither the config in force nor the one on disk, perhaps yet to be loaded, gives any share."""
        try:
            return not self._guard.rules.web_users and not self._read_config().web_users
        except ConfigError:
            return False


class Watch:
    """Tells when files have changed, and have stood still since: half a file is no web config."""

    def __init__(self, sources: tuple[Path, ...]) -> None:
        self._sources = sources
        self._seen: object = None
        self._told: object = None

    def has_changed(self) -> bool:
        """Look; to be called every second or so. True once after each change, and the first time that all is still."""
        found = tuple(map(_trace, self._sources))
        is_still, self._seen = found == self._seen, found
        if not is_still or found == self._told:
            return False
        self._told = found
        return True

    def follow(self, sources: tuple[Path, ...]) -> None:
        """Watch these files from now on; those that are new have changed."""
        if sources != self._sources:
            self._sources, self._seen, self._told = sources, None, None


def _trace(path: Path) -> tuple[int, ...] | None:
    """Return what no change of a file leaves as it is, nor of a link on the way to it."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
