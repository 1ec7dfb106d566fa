# mdiff-client with the embedded engine and the bundled models, S3 and Parquet, without torch; docker/README.md says how to build it.
ARG PYTHON_VERSION=3.12.14-slim-bookworm
ARG PYTHON_DIGEST=sha256:392307d22300de8b5986851a12d9176dfc0fc073e65bf6523ebd7dcbeb23564e

FROM docker.io/library/python:${PYTHON_VERSION}@${PYTHON_DIGEST} AS dependencies
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY pyproject.toml docker/requirements.py ./
# The base's pip fills the environment, which then needs none of its own.
RUN python3 -m venv --without-pip /opt/mdiff \
    && python3 requirements.py s3 parquet > requirements.txt \
    && python3 -m pip --python /opt/mdiff/bin/python install --requirement requirements.txt

FROM dependencies AS package
COPY . .
RUN python3 -m pip wheel --no-deps --wheel-dir /wheels . \
    && python3 -m pip --python /opt/mdiff/bin/python install --no-deps --prefix /package /wheels/*.whl

FROM docker.io/library/python:${PYTHON_VERSION}@${PYTHON_DIGEST}
# Two layers: a change of the code leaves the first, large one where it is.
COPY --from=dependencies /opt/mdiff /opt/mdiff
COPY --from=package /package /opt/mdiff
# A user without a name has no home; libraries that look for one find a place that is writable.
ENV PATH=/opt/mdiff/bin:${PATH} HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /volumes
USER 10001:10001
# As the first process Python heeds Ctrl-C's signal, and would not hear SIGTERM.
STOPSIGNAL SIGINT
# A command that ends: its exit code says how it went.
HEALTHCHECK NONE
ENTRYPOINT ["mdiff-client"]
CMD ["--help"]

ARG PYTHON_VERSION
ARG PYTHON_DIGEST
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mdiff-client" \
      org.opencontainers.image.description="Samples 3D microstructure volumes from 2D diffusion models" \
      org.opencontainers.image.licenses="Apache-2.0 AND MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/python:${PYTHON_VERSION}" \
      org.opencontainers.image.base.digest="${PYTHON_DIGEST}"
