# mdiff-train and mdiff-export with CUDA's torch; docker/README.md says how to build it.
ARG PYTORCH_VERSION=2.13.0-cuda12.6-cudnn9-runtime
ARG PYTORCH_DIGEST=sha256:6acf597eeb8e376a96580dde4952f37cc017fef732bb40bfc73f28f25e3f64b4

FROM docker.io/pytorch/pytorch:${PYTORCH_VERSION}@${PYTORCH_DIGEST} AS dependencies
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY pyproject.toml docker/requirements.py ./
# The environment sees the base's torch, so that pip has no reason to fetch another.
RUN python3 -m venv --without-pip --system-site-packages /opt/mdiff \
    && python3 requirements.py training export > requirements.txt \
    && python3 -m pip --python /opt/mdiff/bin/python install --requirement requirements.txt

FROM dependencies AS package
COPY . .
RUN python3 -m pip wheel --no-deps --wheel-dir /wheels . \
    && python3 -m pip --python /opt/mdiff/bin/python install --no-deps --prefix /package /wheels/*.whl

FROM docker.io/pytorch/pytorch:${PYTORCH_VERSION}@${PYTORCH_DIGEST}
# Two layers: a change of the code leaves the first, large one where it is.
COPY --from=dependencies /opt/mdiff /opt/mdiff
COPY --from=package /package /opt/mdiff
# torch asks for the name and the home of a user who has neither.
ENV PATH=/opt/mdiff/bin:${PATH} HOME=/tmp USER=mdiff PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /work
USER 10001:10001
# A command that ends: its exit code says how it went, its log how it goes. SIGTERM saves and stops.
HEALTHCHECK NONE
ENTRYPOINT ["mdiff-train"]
CMD ["--help"]

ARG PYTORCH_VERSION
ARG PYTORCH_DIGEST
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mdiff-trainer" \
      org.opencontainers.image.description="Trains and exports diffusion models of 2D micrographs" \
      org.opencontainers.image.licenses="Apache-2.0 AND MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/pytorch/pytorch:${PYTORCH_VERSION}" \
      org.opencontainers.image.base.digest="${PYTORCH_DIGEST}"
