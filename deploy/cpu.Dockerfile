# cdscale on CPUs: driver, Dask scheduler and workers, Prefect worker.
#   docker build -f deploy/cpu.Dockerfile -t cdscale:cpu .
# PIP_EXTRA_INDEX_URL may name an index of CPU-only torch wheels: the image is then gigabytes smaller.
FROM python:3.12-slim
ARG PIP_EXTRA_INDEX_URL=""
# rasterio's GDAL needs the system's expat.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/cdscale
COPY pyproject.toml constraints.txt LICENSE ./
COPY cdscale cdscale
COPY flows flows
RUN pip install --no-cache-dir --disable-pip-version-check . -c constraints.txt
ENV PREFECT_SERVER_ANALYTICS_ENABLED=false
RUN useradd --create-home cdscale
USER cdscale
CMD ["cdscale", "--help"]
