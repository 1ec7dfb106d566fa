# Triton with the bundled models, for GPU and CPU, and mdiff-export to build TensorRT engines on the GPU that will run
# them; docker/README.md says how to build it.
ARG TRITON_VERSION=26.08-py3
ARG TRITON_DIGEST=sha256:9185ba5b33d2c85c9204b208957b4bbfc6b2b89066efc9192e0f60c2ab58cec0

FROM nvcr.io/nvidia/tritonserver:${TRITON_VERSION}@${TRITON_DIGEST} AS dependencies
# The base has this TensorRT, but not its Python bindings; these without what they depend on, the libraries once more.
ARG TENSORRT_VERSION=11.2.1.2
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY pyproject.toml docker/requirements.py ./
# The base's pip fills the environment, which then needs none of its own.
RUN python3 -m venv --without-pip /opt/mdiff \
    && python3 requirements.py tensorrt > requirements.txt \
    && sed --in-place /^tensorrt/d requirements.txt \
    && python3 -m pip --python /opt/mdiff/bin/python install --requirement requirements.txt \
    && python3 -m pip --python /opt/mdiff/bin/python install --no-deps \
        tensorrt-cu13==${TENSORRT_VERSION} tensorrt-cu13-bindings==${TENSORRT_VERSION}

FROM dependencies AS package
COPY . .
RUN python3 -m pip wheel --no-deps --wheel-dir /wheels . \
    && python3 -m pip --python /opt/mdiff/bin/python install --no-deps --prefix /package /wheels/*.whl

FROM nvcr.io/nvidia/tritonserver:${TRITON_VERSION}@${TRITON_DIGEST}
# Three layers: a change of the code or of a model leaves the large one where it is.
COPY --from=dependencies /opt/mdiff /opt/mdiff
COPY --from=package /package /opt/mdiff
# For every user to read, whatever the checkout's umask was, and for none to write.
COPY --chmod=555 serving/model_repository /models
# Last on the PATH: Triton's Python backend takes the first python3. CUDA keeps compiled kernels in the home.
ENV PATH=${PATH}:/opt/mdiff/bin HOME=/tmp PYTHONDONTWRITEBYTECODE=1
# The base's user triton-server, by number: Kubernetes cannot tell that a name is not root's.
USER 1000:1000
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 CMD ["/opt/mdiff/bin/python", "-c", \
    "import urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:8000/v2/health/ready')"]
# Not the base's entrypoint, a shell script. Another repository is mounted on /models; further options are arguments.
ENTRYPOINT ["tritonserver", "--model-repository=/models", "--model-control-mode=none", "--disable-auto-complete-config"]

ARG TRITON_VERSION
ARG TRITON_DIGEST
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mdiff-server" \
      org.opencontainers.image.description="NVIDIA Triton with mdiff's diffusion models of 2D micrographs" \
      org.opencontainers.image.licenses="Apache-2.0 AND MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="nvcr.io/nvidia/tritonserver:${TRITON_VERSION}" \
      org.opencontainers.image.base.digest="${TRITON_DIGEST}"
