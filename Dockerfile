# docker build -t leasehold .
#
# Pin the build stage by digest with --build-arg RUST_IMAGE=rust@sha256:…, as .github/workflows/release.yml does.
ARG RUST_IMAGE=docker.io/library/rust:1.95-slim-bookworm

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
# The one command by which the program is built everywhere. `--target` keeps the flag off procedural macros; naming the
# image's own target makes the same line build arm64 and armv7. What else the linker is told stands in build.rs.
RUN RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target "$(rustc --print host-tuple)" \
 && install -D -m 0755 "target/$(rustc --print host-tuple)/release/leasehold" /out/leasehold

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="leasehold" \
      org.opencontainers.image.description="Leader election for any container on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out/leasehold /leasehold
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/leasehold"]
