"""Prometheus exporter for the inbound call statistics of VCC Live."""

__version__ = "0.1.0"
