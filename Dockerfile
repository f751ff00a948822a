# Two stages: the first has everything that makes the program, the second only the program.
FROM node:24-bookworm-slim AS build
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
RUN npm run build

FROM node:24-bookworm-slim
ENV NODE_ENV=production
WORKDIR /app
COPY LICENSE package.json ./
COPY --from=build /app/sql sql
COPY --from=build /app/dist dist
# Nobody's number, so that runAsNonRoot can be checked without /etc/passwd.
USER 65532:65532
ENTRYPOINT ["node", "/app/dist/cli.js"]
