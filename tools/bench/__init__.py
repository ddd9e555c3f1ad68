"""What the exporter costs, against what people would use instead, in one run on one machine: `make bench`.

`machine` starts processes, each on a core, and reads what they use. `api` is the side that is polled, `peers` the
exporter and those that it is held against, `scrape` the client. `scrapes`, `polls` and `growth` measure the figures,
`report` writes them down. The results of a whole run are in `docs/performance.md`.
"""
