# Kennel's one image: `train` fine-tunes, `serve` answers. Docker or Amazon SageMaker say which verb runs.
#
#   docker build -t kennel .                                            BuildKit; or ./build_and_push.sh --local
#   docker build -t kennel --build-arg PRETRAINED=resnet18,resnet50 .   with ImageNet weights inside
#
# BASE_IMAGE is any Debian or Ubuntu with apt. torch brings its own CUDA libraries: the CUDA base adds the
# settings that the NVIDIA container runtime reads, and compatibility libraries for hosts with an older driver.
# There is no `# syntax` line: it would fetch a frontend from a registry, and Docker 20.10's own is enough.
ARG BASE_IMAGE=nvidia/cuda:13.0.3-base-ubuntu24.04


# ---- build: the virtual environment, with a compiler at hand; nothing else of this stage is kept ----
FROM ${BASE_IMAGE} AS build
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        ca-certificates gcc libc6-dev python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

# The base's certificate authorities are trusted, a company's own among them.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    UV_LINK_MODE=copy \
    UV_PYTHON_INSTALL_DIR=/opt/python

# uv lives in an environment of its own: Ubuntu 24.04 lets nobody install into the system's Python.
COPY requirements/uv.txt /requirements/
RUN --mount=type=cache,target=/root/.cache \
    python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --require-hashes --only-binary :all: --requirement /requirements/uv.txt

# The base's Python 3.11 where it has one, compiled already; otherwise uv brings it to /opt/python as source.
# Some of what it brings is broken on purpose, for Python's own tests.
RUN mkdir -p /opt/python \
    && /opt/uv/bin/uv venv --python 3.11 /opt/venv \
    && { /opt/venv/bin/python -m compileall -qq -j 0 --invalidation-mode unchecked-hash /opt/python || true; }

# Byte code is compiled now, since users of the container may not write it, and is trusted unchecked, which
# makes the same packages the same bytes. The CUDA libraries move aside to become a layer of their own: most
# of the image's size, and unchanged (not pushed, not pulled again) while torch stays.
COPY requirements/build.txt requirements/image.txt requirements/debugging.txt /requirements/
RUN --mount=type=cache,target=/root/.cache \
    PYC_INVALIDATION_MODE=UNCHECKED_HASH /opt/uv/bin/uv pip sync --python /opt/venv \
        --require-hashes --build-constraints /requirements/build.txt --compile-bytecode \
        /requirements/image.txt /requirements/debugging.txt \
    && chmod -R a+rX /opt/venv /opt/python \
    && mkdir /opt/cuda \
    && mv /opt/venv/lib/python3.11/site-packages/nvidia /opt/cuda/


# ---- runtime: the base and the packages ----
FROM ${BASE_IMAGE} AS runtime
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=build /opt/python /opt/python
COPY --from=build /opt/cuda /opt/venv/lib/python3.11/site-packages
COPY --from=build /opt/venv /opt/venv

# PYTHONUNBUFFERED: the tuner reads metrics from the log as they are printed.
# PYTHONDONTWRITEBYTECODE: everything is compiled; a read-only container is an ordinary one.
ENV PATH=/opt/program:/opt/venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    KENNEL_PRETRAINED_DIR=/opt/kennel/pretrained
WORKDIR /opt/program


# ---- pretrained: ImageNet weights for the names in PRETRAINED, or an empty folder ----
FROM runtime AS pretrained
ARG PRETRAINED=
COPY container /opt/program/container
RUN --mount=type=cache,target=/root/.cache \
    mkdir -p "${KENNEL_PRETRAINED_DIR}" \
    && if [ -n "${PRETRAINED}" ]; then \
        python -m container.pretrained "${KENNEL_PRETRAINED_DIR}" $(echo "${PRETRAINED}" | tr ',' ' '); \
    fi \
    && chmod -R a+rX /opt/kennel


# ---- program: the code, whatever the line ends and modes of the working copy it came from ----
FROM runtime AS program
COPY train serve /opt/program/
COPY container /opt/program/container
RUN find /opt/program -type f \( -name '*.py' -o -path '/opt/program/train' -o -path '/opt/program/serve' \) \
        -exec sed -i 's/\r$//' {} + \
    && python -m compileall -q --invalidation-mode checked-hash /opt/program/container \
    && chmod -R a+rX /opt/program \
    && chmod 755 /opt/program/train /opt/program/serve


# ---- the image ----
FROM runtime
COPY --from=pretrained /opt/kennel /opt/kennel
COPY --from=program /opt/program /opt/program

# SageMaker runs `docker run IMAGE train` or `docker run IMAGE serve`, its SDK's local mode passes no command
# at all, and some bases bring an entry point that would swallow both.
ENTRYPOINT []
CMD ["train"]
EXPOSE 8080

# What lets an endpoint send many models to one container, and put several containers on one host:
# https://docs.aws.amazon.com/sagemaker/latest/dg/build-multi-model-build-container.html
# https://docs.aws.amazon.com/sagemaker/latest/dg/inference-pipeline-real-time.html
LABEL com.amazonaws.sagemaker.capabilities.multi-models=true \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true

ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=
LABEL org.opencontainers.image.title=Kennel \
      org.opencontainers.image.description="Fine-tunes a ResNet on a folder of images and serves it" \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.source=${SOURCE} \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.revision=${REVISION}
