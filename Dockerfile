# The digest is that of the image for all platforms, as github.com/docker-library/repo-info has it in
# repos/node/remote/24.21.0-bookworm-slim.md; Dependabot moves tag and digest. With another base, a mirror's or one made here:
# docker build --build-context base=docker-image://IMAGE, or buildah build --from IMAGE
FROM node:24.21.0-bookworm-slim@sha256:0e0ff40c39bc087845bfb27465a0df4ea419520094bc35842ff83dd8cbe6f9b6 AS base

# Has everything that makes the program; the last stage has only the program.
FROM base AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The optional packages are PostgreSQL and Node.js for development machines. Behind a proxy or a mirror:
# docker build --secret id=ca,src=<PEM file of authorities> --secret id=npmrc,src=<.npmrc>
RUN --mount=type=secret,id=ca,target=/run/secrets/ca --mount=type=secret,id=npmrc,target=/root/.npmrc \
    NODE_EXTRA_CA_CERTS=/run/secrets/ca npm ci --omit=optional
COPY tsconfig.json ./
COPY scripts scripts
COPY sql sql
COPY src src
# The commit that this is built from, for the metric pgevents_build_info: docker build --build-arg REVISION=$(git rev-parse HEAD)
ARG REVISION=unknown
RUN REVISION="$REVISION" npm run build

FROM base
ENV NODE_ENV=production
WORKDIR /app
COPY LICENSE package.json ./
COPY --from=build /app/sql sql
COPY --from=build /app/dist dist
ARG REVISION=unknown
LABEL org.opencontainers.image.revision=$REVISION
# Nobody's number, so that runAsNonRoot can be checked without /etc/passwd.
USER 65532:65532
# V8 would let 16 MiB of garbage gather before it looks; 2 cost no speed (docs/benchmarks.md).
ENTRYPOINT ["node", "--max-semi-space-size=2", "/app/dist/cli.js"]
