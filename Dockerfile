# syntax=docker/dockerfile:1
# Weir in a container: no shell, not root, nothing written outside /var/lib/weir.
#
#   docker build --build-arg REVISION="$(git rev-parse --short=12 HEAD)" -t weir:0.1.0 .
#   docker run --read-only -p 8080:8080 -p 9902:9902 -v "$PWD/conf:/etc/weir:ro" -v weir-state:/var/lib/weir weir:0.1.0
#
# Mount the directory of the configuration, not the file: a bind mount of one file keeps the old inode when an editor
# replaces it, and the change would never be seen.

FROM rust:1.95-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build

# The dependencies, compiled against an empty program: this layer is rebuilt only when the manifest changes.
COPY Cargo.toml Cargo.lock ./
COPY benches benches
RUN mkdir -p src tests/it \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs tests/it/main.rs \
    && cargo build --release --locked --bin weir

# The program. COPY keeps the files' times, which may be older than the stubs': touch them, or cargo sees no change.
COPY conf conf
COPY src src
ARG REVISION=unknown
ENV WEIR_REVISION=$REVISION
RUN touch src/main.rs src/lib.rs \
    && cargo build --release --locked --bin weir \
    && mkdir -p /image/etc/weir /image/var/lib/weir

FROM gcr.io/distroless/cc-debian12:nonroot
ARG REVISION=unknown
LABEL org.opencontainers.image.title="weir" \
      org.opencontainers.image.description="Splits a service's traffic between its versions by exact weights" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot"

# The program belongs to root, its state to the nonroot user of the base image. That user is named by its number,
# because a kubelet with runAsNonRoot cannot judge a name.
COPY --from=build /build/target/release/weir /usr/local/bin/weir
COPY --from=build /image/etc/weir /etc/weir
COPY --from=build --chown=65532:65532 /image/var/lib/weir /var/lib/weir
USER 65532:65532
WORKDIR /

# Traffic (plain and TLS) and telemetry. The control API stays on the container's loopback.
EXPOSE 8080 8443 9902
VOLUME ["/var/lib/weir"]

# SIGTERM is the graceful end. Give `docker stop` more time than shutdown.deadline (25 s): `docker stop --timeout 30`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["/usr/local/bin/weir", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/weir"]
CMD ["run", "-c", "/etc/weir/weir.yaml"]
