# Kennel's images: `train` fine-tunes, `serve` answers. Docker or Amazon SageMaker say which verb runs.
#
#   docker build -t kennel .                                            BuildKit; or ./build_and_push.sh --local
#   docker build -t kennel --build-arg PRETRAINED=resnet18,resnet50 .   with ImageNet weights inside
#   docker build -t kennel-cpu --target cpu --build-arg BASE_IMAGE=ubuntu:24.04 .
#                       serves on a CPU and does nothing else: a tenth of the size; --target cpu of the script
#
# BASE_IMAGE is any Debian or Ubuntu with apt. torch brings its own CUDA libraries: the CUDA base adds the
# settings that the NVIDIA container runtime reads, and compatibility libraries for hosts with an older driver.
# There is no `# syntax` line: it would fetch a frontend from a registry, and Docker 20.10's own is enough.
#
# The same inputs make the same layers: nothing is installed in the stages that are kept, what they copy has
# the date SOURCE_DATE_EPOCH and no other, and byte code is compiled with a fixed seed (docs/upgrading.md).
ARG BASE_IMAGE=nvidia/cuda:13.0.3-base-ubuntu24.04


# ---- bare: nothing but the base ----
FROM ${BASE_IMAGE} AS bare


# ---- tools: installers, a C compiler and Python 3.11; nothing of this stage is kept but that Python ----
FROM bare AS tools
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        binutils ca-certificates gcc libc6-dev python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

# The base's certificate authorities are trusted, a company's own among them.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    UV_LINK_MODE=copy \
    UV_PYTHON_INSTALL_DIR=/opt/python \
    PYTHONHASHSEED=0

# uv lives in an environment of its own: Ubuntu 24.04 lets nobody install into the system's Python.
COPY requirements/uv.txt requirements/sbom.txt /requirements/
RUN --mount=type=cache,target=/root/.cache \
    python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --require-hashes --only-binary :all: \
        --requirement /requirements/uv.txt --requirement /requirements/sbom.txt

# The base's Python 3.11 where it has one, compiled already; otherwise uv brings it to /opt/python as source.
# Some of what it brings is broken on purpose, for Python's own tests.
ARG SOURCE_DATE_EPOCH=0
COPY requirements/settle.sh /requirements/
RUN mkdir -p /opt/python \
    && /opt/uv/bin/uv venv --python 3.11 /opt/venv \
    && { /opt/venv/bin/python -m compileall -qq --invalidation-mode unchecked-hash /opt/python || true; } \
    && sh /requirements/settle.sh /opt/python /etc/ssl/certs /usr/share/ca-certificates


# ---- build: every package. The CUDA libraries move aside to become a layer of their own: most of the
# image's size, and unchanged (not pushed, not pulled again) while torch stays. TRIM=false leaves in what
# Kennel never runs, which requirements/trim.py lists ----
FROM tools AS build
ARG TRIM=true
COPY requirements/build.txt requirements/image.txt requirements/debugging.txt requirements/trim.py /requirements/
RUN --mount=type=cache,target=/root/.cache \
    /opt/uv/bin/uv pip sync --python /opt/venv --require-hashes --build-constraints /requirements/build.txt \
        /requirements/image.txt /requirements/debugging.txt \
    && { [ "${TRIM}" != true ] || python3 /requirements/trim.py /opt/venv/lib/python3.11/site-packages; } \
    && sh /requirements/settle.sh --compile /opt/venv \
    && mkdir /opt/cuda \
    && mv /opt/venv/lib/python3.11/site-packages/nvidia /opt/cuda/ \
    && sh /requirements/settle.sh /opt/venv /opt/cuda
COPY requirements/sbom.py /requirements/
RUN --mount=type=bind,from=bare,target=/bare \
    /opt/uv/bin/python /requirements/sbom.py /opt/venv/lib/python3.11/site-packages /bare /opt/kennel/sbom.cdx.json \
    && sh /requirements/settle.sh /opt/kennel


# ---- cpu-build: what serving on a CPU needs, which is no torch ----
FROM tools AS cpu-build
ARG TRIM=true
COPY requirements/cpu.txt requirements/trim.py /requirements/
RUN --mount=type=cache,target=/root/.cache \
    /opt/uv/bin/uv pip sync --python /opt/venv --require-hashes --only-binary :all: /requirements/cpu.txt \
    && { [ "${TRIM}" != true ] || python3 /requirements/trim.py /opt/venv/lib/python3.11/site-packages; } \
    && sh /requirements/settle.sh --compile /opt/venv
COPY requirements/sbom.py /requirements/
RUN --mount=type=bind,from=bare,target=/bare \
    /opt/uv/bin/python /requirements/sbom.py /opt/venv/lib/python3.11/site-packages /bare /opt/kennel/sbom.cdx.json \
    && sh /requirements/settle.sh /opt/kennel


# ---- program: the code, whatever the line ends and modes of the working copy it came from ----
FROM tools AS program
COPY train serve /opt/program/
COPY container /opt/program/container
RUN find /opt/program -type f \( -name '*.py' -o -path '/opt/program/train' -o -path '/opt/program/serve' \) \
        -exec sed -i 's/\r$//' {} + \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode checked-hash /opt/program/container \
    && sh /requirements/settle.sh /opt/program \
    && chmod 755 /opt/program/train /opt/program/serve


# ---- base: what both images have ----
FROM bare AS base
COPY --from=tools /usr/share/ca-certificates /usr/share/ca-certificates
COPY --from=tools /etc/ssl/certs /etc/ssl/certs
COPY --from=tools /opt/python /opt/python

# PYTHONUNBUFFERED: the tuner reads metrics from the log as they are printed.
# PYTHONDONTWRITEBYTECODE: everything is compiled; a read-only container is an ordinary one.
ENV PATH=/opt/program:/opt/venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    KENNEL_PRETRAINED_DIR=/opt/kennel/pretrained
WORKDIR /opt/program

# SageMaker runs `docker run IMAGE train` or `docker run IMAGE serve`, its SDK's local mode passes no command
# at all, and some bases bring an entry point that would swallow both.
ENTRYPOINT []
CMD ["train"]
EXPOSE 8080

# What lets an endpoint send many models to one container, and put several containers on one host:
# https://docs.aws.amazon.com/sagemaker/latest/dg/build-multi-model-build-container.html
# https://docs.aws.amazon.com/sagemaker/latest/dg/inference-pipeline-real-time.html
LABEL com.amazonaws.sagemaker.capabilities.multi-models=true \
      com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true \
      org.opencontainers.image.title=Kennel \
      org.opencontainers.image.licenses=Apache-2.0


# ---- the image that serves on a CPU ----
FROM base AS cpu
COPY --from=cpu-build /opt/venv /opt/venv
COPY --from=cpu-build /opt/kennel /opt/kennel
COPY --from=program /opt/program /opt/program
CMD ["serve"]
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=
LABEL org.opencontainers.image.description="Serves a fine-tuned ResNet on a CPU" \
      org.opencontainers.image.source=${SOURCE} \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.revision=${REVISION}


# ---- runtime: every package ----
FROM base AS runtime
COPY --from=build /opt/cuda /opt/venv/lib/python3.11/site-packages
COPY --from=build /opt/venv /opt/venv


# ---- pretrained: ImageNet weights for the names in PRETRAINED, or an empty folder ----
FROM runtime AS pretrained
ARG PRETRAINED=
ARG SOURCE_DATE_EPOCH=0
COPY requirements/settle.sh /requirements/
COPY container /opt/program/container
RUN --mount=type=cache,target=/root/.cache \
    mkdir -p "${KENNEL_PRETRAINED_DIR}" \
    && if [ -n "${PRETRAINED}" ]; then \
        python -m container.pretrained "${KENNEL_PRETRAINED_DIR}" "${PRETRAINED}"; \
    fi \
    && sh /requirements/settle.sh /opt/kennel


# ---- the image ----
FROM runtime
COPY --from=build /opt/kennel /opt/kennel
COPY --from=pretrained /opt/kennel /opt/kennel
COPY --from=program /opt/program /opt/program
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=
LABEL org.opencontainers.image.description="Fine-tunes a ResNet on a folder of images and serves it" \
      org.opencontainers.image.source=${SOURCE} \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.revision=${REVISION}
