# Caprock's gateway and worker in one image.
#
#   docker build .                       compiles everything (llama.cpp included: minutes)
#   docker build --target prebuilt .     takes target/release/{caprock,caprock-worker}, built on a system whose C library
#                                        is not newer than the runtime image's
#
# BuildKit (the default since Docker 23) builds only the stages it needs. The older builder runs every stage above its
# target, so `prebuilt` stands before what compiles; for `built` there, set DOCKER_BUILDKIT=1.
ARG BUILD_IMAGE=rust:1.95.0-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${RUNTIME_IMAGE} AS runtime
RUN groupadd --gid 10001 caprock \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/caprock --shell /usr/sbin/nologin caprock \
    && install -d -o caprock -g caprock -m 0700 /var/lib/caprock /run/caprock
USER 10001:10001
WORKDIR /var/lib/caprock
EXPOSE 8080 8443 8081 8091 8092
CMD ["caprock", "serve", "--config", "/etc/caprock/gateway.toml"]

FROM runtime AS prebuilt
COPY target/release/caprock target/release/caprock-worker /usr/local/bin/

FROM ${BUILD_IMAGE} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake g++ libclang-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Two commands, as everywhere: the worker alone, so that nothing else can switch features of what it shares.
RUN cargo build --locked --release -p cluster-worker && cargo build --locked --release -p caprock-gateway

FROM runtime AS built
COPY --from=build /src/target/release/caprock /src/target/release/caprock-worker /usr/local/bin/
