# One image for every process; which one it is, the command says (see Procfile).

FROM python:3.12-slim AS wheel
WORKDIR /src
COPY requirements-dev.lock .
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-dev.lock
COPY pyproject.toml README.md LICENSE ./
COPY geo geo
COPY alerting alerting
COPY consumers consumers
COPY dashboards dashboards
# Without isolation: the build back end is the locked one, not today's newest.
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel .

FROM python:3.12-slim AS installed
RUN python -m venv /opt/allerta
COPY requirements.lock .
RUN /opt/allerta/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock
COPY --from=wheel /wheel /wheel
RUN /opt/allerta/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps /wheel/*.whl

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin allerta
COPY --from=installed /opt/allerta /opt/allerta
ENV PATH=/opt/allerta/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER allerta
WORKDIR /
CMD ["python", "-m", "alerting", "--help"]
