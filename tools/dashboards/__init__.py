"""The Grafana dashboards, built from the exporter's vocabulary: `python -m tools.dashboards` rewrites the JSON.

One module a dashboard; `queries` has the PromQL that they share, `panels` how a panel looks, `board` what is around
them. What Grafana makes of it is described in `docs/dashboards.md`.
"""
