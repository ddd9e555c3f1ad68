"""A simulated week of chaos with an oracle beside it: `make soak`.

The exporter's own parts run in this process, as in the daemon: config, store, poller, timetable, network, client, web
application. They ask an API over HTTP and are scraped over HTTP. Only the clock is not real: it stands while anything
is under way, and is then set to the next instant at which something is due.

`calendar` and `fleet` are the customers as the contract describes them, `accounts` what the API knows and how it
misbehaves, `api` its sockets. `oracle` is told what was asked and answered, and with `model` says of every scrape what
it may show; both know the contract and nothing of the exporter's code. `page` reads scrapes, `rig` is the exporter with
its clock, `week` what happens when, by `dice`.
"""
