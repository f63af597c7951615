"""Everything that calls Amazon Connect: the client, the directory of statuses, and the dispatcher."""
