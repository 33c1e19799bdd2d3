# snapfold in a small image: the program, the certificates of public authorities, and Debian's slim base. It runs as an
# ordinary user and writes only where the configuration says (`index.embedded`, `blobs.directory`).
#
#   docker build --target snapfold --tag snapfold:0.1.0 .
#
# Needs BuildKit, the default since Docker 23. Both caches outlive a build, so after a change only this package and
# what changed in Cargo.lock are compiled. There is no HEALTHCHECK: what starts the container knows what it runs
# (`run` serves /readyz, `migrate` ends); docker-compose.yml has one that works with what is in the image.

FROM rust:1.95.0-trixie AS build
WORKDIR /snapfold
# The sources are mounted and not copied: nothing of them stays in a layer. `.cargo` holds the allocator's settings.
# Names of functions stay in the program, for backtraces; the tables of lines are ten times its size.
RUN --mount=type=bind,target=. \
    --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/target \
    CARGO_TARGET_DIR=/target cargo build --locked --release --bin snapfold \
    && strip --strip-debug -o /usr/local/bin/snapfold /target/release/snapfold

FROM debian:13.5-slim AS snapfold
# For S3 and Kafka over TLS; the slim base has none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /usr/local/bin/snapfold /usr/local/bin/snapfold
# The folder of embedded stores belongs to the user, and with it a new volume that is mounted there.
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin snapfold \
    && install --directory --owner snapfold --group snapfold /var/lib/snapfold
USER 10001
WORKDIR /var/lib/snapfold
EXPOSE 8080
# Covers what is dirty and leaves the group; a second one ends it at once.
STOPSIGNAL SIGTERM
ENTRYPOINT ["snapfold"]
CMD ["--help"]

# The bundled sample as lines `key TAB value`, for Kafka's console producer.
FROM debian:13.5-slim AS lines
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends zstd && rm -rf /var/lib/apt/lists/*
# Events of one aggregate need one key, or they would be spread over partitions and lose their order. A line that is
# not as expected ends the build.
RUN --mount=type=bind,source=assets/browser-compat,target=/assets \
    zstd --decompress --stdout /assets/compat-releases.ndjson.zst \
    | sed --regexp-extended 's/^(\{"id":"[^"]*","type":"[^"]*","aggregateId":"([^"]+)")/\2\t\1/' >/compat.tsv \
    && ! grep --quiet --invert-match --perl-regexp '^[^\t{]+\t\{' /compat.tsv

FROM apache/kafka:4.3.1 AS sample
COPY --from=lines /compat.tsv /opt/sample/compat.tsv
COPY --chmod=755 tools/bundled-data/produce /opt/sample/produce
ENTRYPOINT ["/opt/sample/produce"]
CMD ["kafka:19092", "compat"]
