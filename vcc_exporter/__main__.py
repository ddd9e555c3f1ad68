"""The program's door, as `python -m vcc_exporter`, as the command and as exporter.py."""

import gc
import os
import signal


def main() -> None:
    """Run the command line. A signal that comes while modules are loaded ends it as one that comes later."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the config is still to be read
    gc.disable()  # modules stay, and to look through them again and again takes a tenth of the start
    from vcc_exporter import cli  # noqa: PLC0415 - the signals come first

    gc.enable()
    cli.main()


if __name__ == "__main__":
    main()
