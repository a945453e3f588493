# One small image for all four services: `docker build -t millrace .`
#
# Whoever has built the program already, on the same Debian or an older one, takes it as it is:
# `docker build --target prebuilt -t millrace CONTEXT`, where CONTEXT holds `millrace` and
# `deploy/image`. That stage stands before the one with Rust, so that builders that go through a
# file from the top need no image of Rust for it.

ARG BASE=debian:bookworm-slim

FROM ${BASE} AS base
RUN groupadd --gid 10001 millrace \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin millrace \
 && install -d -o millrace -g millrace -m 0750 /data
COPY deploy/image/ready /usr/local/bin/ready
USER 10001:10001
# Mount a volume here for a store-writer without a database, or `millrace dev`: `.millrace` is in it.
WORKDIR /data
# Where `ready` asks; whoever sets another address sets another one there too.
ENV MILLRACE_ADMIN=127.0.0.1:9400
HEALTHCHECK --interval=5s --timeout=3s --start-period=120s --retries=6 CMD ["ready"]
# SIGTERM drains, which takes 10 s at most.
STOPSIGNAL SIGTERM
ENTRYPOINT ["millrace"]
CMD ["--help"]

FROM base AS prebuilt
COPY millrace /usr/local/bin/millrace

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --bin millrace && strip target/release/millrace

FROM base AS millrace
COPY --from=build /source/target/release/millrace /usr/local/bin/millrace
