# A broker in a container. The first process reaps, hands on signals, and starts a killed broker again; no other init is needed.
#   docker build -t relaybroker .
#   docker run -v "$PWD:/work" -v relaybroker-home:/home/relay -p 127.0.0.1:7777:7777 -e RELAY_BROKER_API_KEY relaybroker
FROM python:3.13-slim AS build
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir build==1.3.0 && python -m build --wheel --outdir /dist

FROM python:3.13-slim
RUN apt-get update && apt-get install --no-install-recommends -y git procps && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 relay
COPY requirements.lock /tmp/requirements.lock
COPY --from=build /dist/*.whl /tmp/
RUN pip install --no-cache-dir --require-hashes --no-deps -r /tmp/requirements.lock \
    && pip install --no-cache-dir --no-deps /tmp/*.whl && rm /tmp/*.whl /tmp/requirements.lock
USER relay
# the project with its relaybroker.toml, and the state in .agentworkforce
WORKDIR /work
EXPOSE 7777
HEALTHCHECK --interval=30s --timeout=5s --start-period=5m \
    CMD ["relaybroker", "status", "--json"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["relaybroker"]
CMD ["up", "--api-bind", "0.0.0.0", "--api-port", "7777"]
