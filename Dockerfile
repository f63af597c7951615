# The builder makes a virtual environment without pip; the final stage copies it and has no tools to build anything.
FROM python:3.12-slim-bookworm AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

COPY requirements/run.txt requirements/build.txt requirements/
RUN python -m venv --without-pip /opt/watchdog \
    && python -m pip --python /opt/watchdog/bin/python install --no-compile --require-hashes -r requirements/run.txt \
    && python -m pip install --require-hashes -r requirements/build.txt

COPY pyproject.toml README.md LICENSE ./
COPY watchdog/ watchdog/
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && python -m pip --python /opt/watchdog/bin/python install --no-compile --no-deps --no-index wheels/*.whl \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/watchdog/lib


FROM python:3.12-slim-bookworm

LABEL org.opencontainers.image.title="Connect Presence Watchdog" \
      org.opencontainers.image.description="Sets Amazon Connect agents Offline when their last session is gone" \
      org.opencontainers.image.licenses="Apache-2.0"

# Nothing is written outside /data, so the root file system may be read-only.
ENV PATH=/opt/watchdog/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WATCHDOG_HOST=0.0.0.0 \
    WATCHDOG_PORT=8080

RUN python -m pip uninstall --yes --quiet --root-user-action=ignore pip \
    && groupadd --gid 10001 watchdog \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin watchdog \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data
COPY --from=builder /opt/watchdog /opt/watchdog

USER 10001:10001
# Here is the file of facts, `watchdog.db`, unless WATCHDOG_STORE or WATCHDOG_STORE_FILE names another place.
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/bin/sh", "-c", "exec python -m watchdog.alive $WATCHDOG_HOST $WATCHDOG_PORT ${WATCHDOG_TLS_CERT:+tls}"]
ENTRYPOINT ["watchdog"]
CMD ["run"]
