# One image for every process of a deployment: docker build -t btcfi . (or `make image`, which needs no daemon)
# Built from the lock file alone; what runs has no compiler, no pip cache, no root and needs no writable file but /data and /tmp.

# any Debian with Python 3.11, 3.12 or 3.13 and its venv module
ARG BASE=python:3.11.13-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN python3 -m venv /opt/btcfi
WORKDIR /src
COPY requirements.lock .
RUN /opt/btcfi/bin/pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY btcfi btcfi
COPY tasks tasks
COPY workers workers
COPY settings settings
COPY dashboards dashboards
COPY guest_programs guest_programs
RUN /opt/btcfi/bin/pip install --no-deps --no-build-isolation . \
    && /opt/btcfi/bin/pip uninstall --yes pip setuptools \
    && /opt/btcfi/bin/python -m compileall -q /opt/btcfi/lib

FROM ${BASE}
RUN groupadd --gid 10001 btcfi \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin btcfi \
    && install --directory --owner=10001 --group=10001 --mode=0700 /data /chain /oracle /network /data/alive /data/wallet /data/desk /data/nodes /data/network /data/parties \
        /data/parties/seller /data/parties/seller/party /data/parties/buyer /data/parties/buyer/party
COPY --from=build /opt/btcfi /opt/btcfi
# compiled kernels go where a read-only container can write
ENV PATH=/opt/btcfi/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/tmp/numba MPLCONFIGDIR=/tmp/matplotlib \
    BTCFI_DATA_DIR=/data BTCFI_LOG_FORMAT=json BTCFI_LISTEN_HOST=0.0.0.0 BTCFI_API_HOST=0.0.0.0
USER 10001:10001
WORKDIR /data
# workers finish what is at hand on SIGTERM (REMAP_SIGTERM in workers/commands/worker.py)
STOPSIGNAL SIGTERM
ENTRYPOINT ["btcfi"]
CMD ["--help"]
