# Stage one builds as a developer does, by the Makefile; stage two holds what serving needs and nothing else.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
# ONNX Runtime first: its layer is kept until the pinned version changes.
COPY Makefile ./
COPY tools/setup tools/setup
RUN make setup
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY catalogue catalogue
COPY crates crates
COPY src src
COPY tools/xtask tools/xtask
# The caches outlive the layer and stay out of the image, so what is kept is copied in the same step. `install` follows
# the link that libonnxruntime.so.1 is.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target,sharing=locked \
    make build \
    && install -D --target-directory=/image target/release/headstart vendor/onnxruntime/*/*/libonnxruntime.so.1 \
    && install -D --mode=644 --target-directory=/licences vendor/onnxruntime/*/*/LICENSE vendor/onnxruntime/*/*/ThirdPartyNotices.txt

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="headstart" \
      org.opencontainers.image.description="Serves pretrained ONNX backbones over REST: features and zero-shot labels" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner=10001 --group=10001 /headstart/data
COPY --from=build /image /usr/local/lib/headstart
COPY LICENSE /usr/local/share/doc/headstart/
COPY --from=build /licences /usr/local/share/doc/onnxruntime
COPY models /headstart/models
# The library is looked for beside the real executable, so a link on the path is enough.
RUN ln -s /usr/local/lib/headstart/headstart /usr/local/bin/headstart
# ONNX Runtime sends figures of its use to its makers, whatever its interface is told, unless this is set.
ENV ORT_DISABLE_TELEMETRY=1
# Options keep their defaults: `models` and `data` are folders of the working directory, and any HEADSTART_… variable or
# flag can still change them. Only the address is set here, since the default is not reachable from outside.
ENV HEADSTART_LISTEN=0.0.0.0:8080
WORKDIR /headstart
USER 10001:10001
EXPOSE 8080
# Ready rather than alive, so that what waits for this container waits for its backbones. The image has no HTTP client;
# bash speaks enough of it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /readyz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
# Other machines are served: set HEADSTART_API_KEYS, or HEADSTART_ALLOW_UNAUTHENTICATED=true where anyone may ask.
ENTRYPOINT ["headstart"]
CMD ["serve"]
