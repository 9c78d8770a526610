# The sidecar as an image: `docker build -t shadowproxy:0.2.0 .` (deploy/README.md says how to run it).
# No "# syntax=" line: the builder's own grammar is enough, and that line would cause a download at each build.

# The two base images. To pin them, give them with their digests: `--build-arg SLIM=python:3.13-slim@sha256:...`.
ARG FULL=python:3.13
ARG SLIM=python:3.13-slim

# The full base image, because it has a C compiler.
FROM ${FULL} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv --without-pip /opt/shadowproxy
WORKDIR /src
COPY deploy/image/requirements.lock deploy/image/build.lock ./
# Wheels only: a source archive would run its own code here.
RUN pip --python /opt/shadowproxy/bin/python3 install --no-compile --require-hashes --only-binary :all: -r requirements.lock \
    && pip install --require-hashes --only-binary :all: -r build.lock
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY shadowproxy ./shadowproxy
ARG VERSION=0.2.0
# Compiling needs the types of the imported packages. The version in the label below must be the program's.
RUN HATCH_BUILD_HOOKS_ENABLE=1 PYTHONPATH=/opt/shadowproxy/lib/python3.13/site-packages \
        pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /dist . \
    && pip --python /opt/shadowproxy/bin/python3 install --no-compile --no-deps --no-index /dist/*.whl \
    && test "$(/opt/shadowproxy/bin/shadowproxy --version)" = "shadowproxy ${VERSION} (compiled)"
# Byte code cannot be written on a read-only root. The files never change, so they need no comparison with their source.
RUN /opt/shadowproxy/bin/python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/shadowproxy/lib


FROM ${SLIM}
# The official images have no byte code for the standard library, and compiling it would be the longest part of each start.
# The packages' installers are removed, as nothing is installed later.
RUN rm -rf /usr/local/bin/pip* /usr/local/bin/idle* /usr/local/lib/python3.13/site-packages/* \
        /usr/local/lib/python3.13/ensurepip /usr/local/lib/python3.13/idlelib /usr/local/lib/python3.13/test \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -x 'config-[^/]*|lib2to3' /usr/local/lib/python3.13 \
    && install -d -m 0700 -o 65532 -g 65532 /var/lib/shadowproxy
COPY --from=build /opt/shadowproxy /opt/shadowproxy
ENV PATH=/opt/shadowproxy/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1
# By default the log goes to shadow-log in this directory: mount a volume here to keep it after the container ends.
WORKDIR /var/lib/shadowproxy
USER 65532:65532
EXPOSE 8080 9901
STOPSIGNAL SIGTERM
# Asks the admin server at its default address. If `admin` is another, override it with `--admin ADDRESS` or `-c FILE`.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["shadowproxy", "healthcheck"]
ENTRYPOINT ["shadowproxy"]
CMD ["serve", "-c", "/etc/shadowproxy/config.yaml"]
ARG VERSION=0.2.0
ARG REVISION=unknown
ARG SLIM
LABEL org.opencontainers.image.title="shadowproxy" \
      org.opencontainers.image.description="A reverse-proxy sidecar that asks a shadow model the same requests as the live one" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${SLIM}"
