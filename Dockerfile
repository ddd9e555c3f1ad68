# The exporter as a container image: docker build --tag vcc-exporter .
# It runs as any user, needs no writable file, and reads /etc/vcc-exporter/config.yaml; docs/operating.md has more.
# The base image's tag moves with the security updates of Python and Debian, and a digest cannot be known without asking for
# it. To pin the bytes, put the digest that `docker buildx imagetools inspect` prints behind the tag:
#   docker build --build-arg PYTHON=3.13-slim-bookworm@sha256:... --tag vcc-exporter .
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/vcc-exporter
# Dependencies change seldom, so they are a layer of their own.
COPY requirements.txt ./
RUN python -m pip --python /opt/vcc-exporter install --no-compile --require-hashes --only-binary :all: -r requirements.txt
COPY requirements-build.txt ./
RUN python -m pip install --no-compile --require-hashes --only-binary :all: -r requirements-build.txt
COPY pyproject.toml README.md LICENSE ./
COPY vcc_exporter vcc_exporter
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir wheel . \
    && python -m pip --python /opt/vcc-exporter install --no-compile --no-deps wheel/*.whl \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/vcc-exporter/lib

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="vcc-exporter" \
      org.opencontainers.image.description="Prometheus exporter for the inbound call statistics of VCC Live" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# Nothing here installs packages. The base image lacks the standard library's byte code and nobody can write it later, so
# each start would compile it anew; that of unchecked-hash stays good whatever times a builder gives to the files.
RUN python -m pip uninstall --quiet --yes --root-user-action=ignore pip setuptools wheel \
    && rm -rf /usr/local/lib/python3*/ensurepip \
    && python -m compileall -q --invalidation-mode unchecked-hash /usr/local/lib/python3*/
COPY --from=builder /opt/vcc-exporter /opt/vcc-exporter
ENV PATH=/opt/vcc-exporter/bin:${PATH} \
    PYTHONDONTWRITEBYTECODE=1
RUN vcc-exporter --version
# Nobody; numeric, so that Kubernetes can see that it is not root. Another id works as well.
USER 65534:65534
EXPOSE 10742
# Another port needs another check, by --health-cmd. With a web config the answer is that nobody was let in, or that TLS is
# spoken here, which only a process that lives can say. http.client, as urllib would ask the environment's proxy.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-c", "import http.client, sys; \
c = http.client.HTTPConnection('127.0.0.1', 10742, timeout=4); c.request('GET', '/-/healthy'); \
sys.exit(c.getresponse().status >= 500)"]
ENTRYPOINT ["vcc-exporter"]
CMD ["--config.file=/etc/vcc-exporter/config.yaml"]
