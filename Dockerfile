# dheera as an image: Python, dheera and what it needs, run by a user who owns nothing but the state directory.
#
#   docker build --tag dheera .
#   docker run --rm --publish 127.0.0.1:4000:4000 --env DHEERA_AI_MASTER_KEY=sk-... dheera --demo
#
# A tag may name another image tomorrow. To build twice from the same bytes, name them:
#
#   docker build --tag dheera --build-arg PYTHON=3.13-slim-trixie@sha256:... .
#
# compose.yaml runs it with PostgreSQL; docs/operations.md tells the rest.

ARG PYTHON=3.13-slim-trixie

FROM python:${PYTHON} AS build
WORKDIR /source
# What changes seldom comes first, and is taken from the builder's cache. txpostgres comes as source alone, and is built
# by what the other lock names; nothing else brings code that runs while it is installed.
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes --only-binary :all: \
    --requirement requirements-build.lock \
 && /opt/build/bin/pip wheel --no-cache-dir --require-hashes --only-binary :all: --no-binary txpostgres \
    --no-build-isolation --wheel-dir /wheels --requirement requirements.lock
COPY . .
# The last command writes Twisted's list of plugins, which nobody may write later.
RUN /opt/build/bin/python -m hatchling build --target wheel --directory /wheels \
 && python -m venv --without-pip /opt/dheera \
 && /opt/build/bin/pip --python /opt/dheera/bin/python install --no-cache-dir --no-index --find-links /wheels \
    "dheera[otel]" \
 && /opt/dheera/bin/python -c "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))"

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="dheera" \
      org.opencontainers.image.description="A gateway in front of the Mistral API" \
      org.opencontainers.image.licenses="Apache-2.0"
# The number is what volumes and policies of a cluster see: it stays. A new volume takes over owner and mode of the
# folder.
RUN groupadd --gid 10001 dheera \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/dheera --shell /usr/sbin/nologin dheera \
 && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/dheera \
 && python -m pip uninstall --yes --root-user-action=ignore pip
COPY --from=build /opt/dheera /opt/dheera
# Says nothing but the defaults; mount another one over the folder, so that a reload sees a file that was replaced.
COPY conf/dheera.toml /etc/dheera/dheera.toml
ENV PATH=/opt/dheera/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DHEERA_AI_CONFIG=/etc/dheera/dheera.toml \
    DHEERA_AI_STATE_DIR=/var/lib/dheera
VOLUME /var/lib/dheera
EXPOSE 4000
# dheera then refuses new calls, and lets those under way finish for drain_seconds: grant it longer before the kill.
STOPSIGNAL SIGTERM
USER 10001:10001
# Whether it is alive, not whether it is ready: who restarts what is unhealthy must not restart all nodes when the
# database is away. Where dheera serves https, or on a port that only its file names, give the container a check of its
# own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "\
import os, sys\n\
from http.client import HTTPConnection\n\
connection = HTTPConnection('127.0.0.1', int(os.environ.get('DHEERA_AI_PORT') or 4000), timeout=4)\n\
connection.request('GET', '/health/liveliness')\n\
sys.exit(connection.getresponse().status != 200)"]
ENTRYPOINT ["dheera_ai"]
