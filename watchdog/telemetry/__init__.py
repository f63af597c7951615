"""What the outside sees of the daemon: logs, metrics, and the one record of every decision."""
