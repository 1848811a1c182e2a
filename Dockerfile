# A server for one bundle on the CPU: docker build -t stale-edge . && docker run -p 8080:8080 -v "$PWD/bundle:/bundle:ro" stale-edge
FROM python:3.12-slim-bookworm AS build
WORKDIR /source
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++=4:12.2.0-3 \
    && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml README.md LICENSE CMakeLists.txt constraints.txt ./
COPY csrc csrc
COPY stale_edge stale_edge
# Versions are those of constraints.txt.
# hadolint ignore=DL3013
RUN pip wheel --no-cache-dir --wheel-dir /wheels --constraint constraints.txt '.[cpu,serve,video,text]'

FROM python:3.12-slim-bookworm
# hadolint ignore=DL3013
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels 'stale-edge[cpu,serve,video,text]' \
    && useradd --system --uid 10001 stale-edge
USER 10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["stale-edge", "serve", "/bundle", "--host", "0.0.0.0"]
