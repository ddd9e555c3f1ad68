#!/usr/bin/env python3
"""The exporter, from a checkout; installed, it is the command vcc-exporter."""

from vcc_exporter.__main__ import main

if __name__ == "__main__":
    main()
