"""Amazon Connect's stand-in: the users, statuses and contacts that the daemon reads and writes, without AWS.

`model.py` holds what is true and `rules.py` how it changes; `backend.py` and `server.py` put it behind moto's HTTP
server for boto3; `direct.py` calls it without HTTP, for tests on virtual time. Nothing here is used in production.
"""
