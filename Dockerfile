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
# The same inputs make the same layers: nothing is installed in the stages that are kept, and what they copy has
# SOURCE_DATE_EPOCH for its only date. It is copied as a tree from the root on, since COPY gives today's date to
# the folder that it is told to make.
ARG BASE_IMAGE=nvidia/cuda:13.0.3-base-ubuntu24.04


# ---- bare: nothing but the base ----
FROM ${BASE_IMAGE} AS bare


# ---- tools: installers, a C compiler and Python 3.11; nothing of this stage is kept but that Python ----
FROM bare AS tools
# A Python 3.11 that this installs is none that the image would have: uv is to bring its own then.
RUN mkdir -p /etc/uv \
    && { command -v python3.11 || echo 'python-preference = "only-managed"' >/etc/uv/uv.toml; } \
    && apt-get update \
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
# Some of what it brings is broken on purpose, for Python's own tests, and so are files of some packages.
ARG SOURCE_DATE_EPOCH=0
COPY requirements/settle.sh /requirements/
RUN mkdir -p /opt/python \
    && /opt/uv/bin/uv venv --python 3.11 /opt/empty \
    && { /opt/empty/bin/python -m compileall -qq --invalidation-mode unchecked-hash /opt/python || true; } \
    && mkdir /rootfs \
    && cp --archive --parents /opt/python /etc/ssl/certs /usr/share/ca-certificates /rootfs \
    && sh /requirements/settle.sh /rootfs


# ---- build: every package. The CUDA libraries move aside to become a layer of their own: most of the
# image's size, and unchanged (not pushed, not pulled again) while torch stays. TRIM=false leaves in what
# Kennel never runs, which requirements/trim.py lists ----
FROM tools AS build
ARG TRIM=true
COPY requirements/build.txt requirements/image.txt requirements/debugging.txt requirements/trim.py \
    requirements/sbom.py /requirements/
RUN --mount=type=cache,target=/root/.cache --mount=type=bind,from=bare,target=/bare \
    packages=opt/venv/lib/python3.11/site-packages \
    && /opt/uv/bin/uv venv --python 3.11 /opt/venv \
    && /opt/uv/bin/uv pip sync --python /opt/venv --require-hashes --build-constraints /requirements/build.txt \
        /requirements/image.txt /requirements/debugging.txt \
    && { [ "${TRIM}" != true ] || python3 /requirements/trim.py /${packages}; } \
    && { /opt/venv/bin/python -m compileall -qq --invalidation-mode unchecked-hash /${packages} || true; } \
    && mkdir -p /sbom/opt/kennel /cuda/${packages} /venv/opt \
    && /opt/uv/bin/python /requirements/sbom.py /${packages} /bare /sbom/opt/kennel/sbom.cdx.json \
    && mv /${packages}/nvidia /cuda/${packages}/ \
    && mv /opt/venv /venv/opt/ \
    && sh /requirements/settle.sh /sbom /cuda /venv


# ---- cpu-build: what serving on a CPU needs, which is no torch ----
FROM tools AS cpu-build
ARG TRIM=true
COPY requirements/cpu.txt requirements/trim.py requirements/sbom.py /requirements/
RUN --mount=type=cache,target=/root/.cache --mount=type=bind,from=bare,target=/bare \
    packages=opt/venv/lib/python3.11/site-packages \
    && /opt/uv/bin/uv venv --python 3.11 /opt/venv \
    && /opt/uv/bin/uv pip sync --python /opt/venv --require-hashes --only-binary :all: /requirements/cpu.txt \
    && { [ "${TRIM}" != true ] || python3 /requirements/trim.py /${packages}; } \
    && /opt/venv/bin/python -m compileall -qq --invalidation-mode unchecked-hash /${packages} \
    && mkdir -p /sbom/opt/kennel /venv/opt \
    && /opt/uv/bin/python /requirements/sbom.py /${packages} /bare /sbom/opt/kennel/sbom.cdx.json \
    && mv /opt/venv /venv/opt/ \
    && sh /requirements/settle.sh /sbom /venv


# ---- program: the code, whatever the line ends and modes of the working copy it came from ----
FROM tools AS program
WORKDIR /program/opt/program
COPY train serve ./
COPY container container
RUN find . -type f -exec sed -i 's/\r$//' {} + \
    && /opt/empty/bin/python -m compileall -q --invalidation-mode checked-hash -s /program -p / /program \
    && chmod 755 train serve \
    && sh /requirements/settle.sh /program


# ---- base: what both images have ----
FROM bare AS base
COPY --from=tools /rootfs/ /

# PYTHONUNBUFFERED: the tuner reads metrics from the log as they are printed.
# PYTHONDONTWRITEBYTECODE: everything is compiled; a read-only container is an ordinary one.
ENV PATH=/opt/program:/opt/venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    KENNEL_PRETRAINED_DIR=/opt/kennel/pretrained

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
COPY --from=cpu-build /venv/ /
COPY --from=cpu-build /sbom/ /
COPY --from=program /program/ /
WORKDIR /opt/program
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
COPY --from=build /cuda/ /
COPY --from=build /venv/ /


# ---- pretrained: ImageNet weights for the names in PRETRAINED, or an empty folder ----
FROM runtime AS pretrained
ARG PRETRAINED=
ARG SOURCE_DATE_EPOCH=0
COPY requirements/settle.sh /requirements/
COPY container /opt/program/container
WORKDIR /opt/program
RUN --mount=type=cache,target=/root/.cache \
    mkdir -p "/pretrained${KENNEL_PRETRAINED_DIR}" \
    && if [ -n "${PRETRAINED}" ]; then \
        python -m container.pretrained "/pretrained${KENNEL_PRETRAINED_DIR}" "${PRETRAINED}"; \
    fi \
    && sh /requirements/settle.sh /pretrained


# ---- the image ----
FROM runtime
COPY --from=build /sbom/ /
COPY --from=pretrained /pretrained/ /
COPY --from=program /program/ /
WORKDIR /opt/program
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=
LABEL org.opencontainers.image.description="Fine-tunes a ResNet on a folder of images and serves it" \
      org.opencontainers.image.source=${SOURCE} \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.revision=${REVISION}
