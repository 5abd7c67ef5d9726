# Both images are Debian 13, so that the binary meets the C library it was linked against. They are arguments because
# docker/build-offline and docker/compose.cuda.yaml bring their own.
ARG BUILDER_IMAGE=docker.io/library/rust:1.95-slim-trixie
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian13:nonroot

FROM ${BUILDER_IMAGE} AS build
# Cargo features, such as "cuda".
ARG FEATURES=""
WORKDIR /build
COPY . .
# The caches keep downloads and compiled dependencies between builds. Cargo goes by modification times, and a checkout may
# be older than what another one left in the cache: the touch makes it compile this package every time.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target,sharing=locked \
    touch src/lib.rs src/main.rs \
    && cargo build --release --locked --features "${FEATURES}" \
    && mkdir -p /out/data \
    && strip -o /out/fewstep target/release/fewstep

FROM ${RUNTIME_IMAGE}
COPY --from=build /out/fewstep /usr/local/bin/fewstep
# A new named volume takes its owner from this folder.
COPY --from=build --chown=65532:65532 /out/data /data
# Also SQLite's last resort for temporary files, so that nothing else has to be writable.
WORKDIR /data
VOLUME /data
USER 65532:65532
ENV FEWSTEP_LISTEN=0.0.0.0:8080 \
    FEWSTEP_DATABASE_URL=sqlite:/data/fewstep.db
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/local/bin/fewstep", "health"]
ENTRYPOINT ["/usr/local/bin/fewstep"]
CMD ["serve"]
