# cdscale on NVIDIA GPUs; the host brings the driver (CUDA 13) and the NVIDIA container toolkit.
#   docker build -f deploy/gpu.Dockerfile -t cdscale:gpu .
# torch's wheels bring the CUDA libraries, so no CUDA base image is needed.
FROM python:3.12-slim
# rasterio's GDAL needs the system's expat.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/cdscale
COPY pyproject.toml constraints.txt LICENSE ./
COPY cdscale cdscale
COPY flows flows
RUN pip install --no-cache-dir --disable-pip-version-check ".[cuda]" -c constraints.txt
ENV PREFECT_SERVER_ANALYTICS_ENABLED=false \
    CUDA_DEVICE_ORDER=PCI_BUS_ID \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --create-home cdscale
USER cdscale
CMD ["cdscale", "--help"]
