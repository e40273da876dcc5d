# syntax=docker/dockerfile:1

# To pin it by its digest: --build-arg NODE_IMAGE=node@sha256:...
ARG NODE_IMAGE=node:24-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
COPY clients/typescript/package.json ./clients/typescript/
RUN npm ci --include=dev
COPY tsconfig.json tsconfig.build.json tsconfig.console.json buf.yaml ./
COPY scripts ./scripts
COPY proto ./proto
COPY gen ./gen
COPY src ./src
COPY embedded ./embedded
COPY console ./console
# What the next stage installs, as a list for those who look for known holes in it.
RUN node scripts/build.mjs && node scripts/sbom.mjs sbom.cdx.json

FROM ${NODE_IMAGE} AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The lock file names the client; without workspaces nothing is installed for it.
COPY clients/typescript/package.json ./clients/typescript/
RUN npm ci --omit=dev --omit=optional --workspaces=false

FROM ${NODE_IMAGE}
# docker build --build-arg VERSION=... --build-arg REVISION="$(git rev-parse HEAD)" --build-arg CREATED="$(date -u +%FT%TZ)" .
ARG VERSION=0.0.0-unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="coupon-service" \
  org.opencontainers.image.description="A coupon microservice that never issues one too many: gRPC and JSON" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.created="${CREATED}" \
  org.opencontainers.image.source="${SOURCE}"
ENV NODE_ENV=production
WORKDIR /app
COPY --from=packages /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/sbom.cdx.json ./
COPY package.json ./
COPY drizzle ./drizzle
# The user "node" of the base image, as a number: Kubernetes cannot tell by a name that it is not root.
USER 1000:1000
EXPOSE 50051 8080 9090
# Lives as long as it answers; whether it can serve is /readyz.
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + (process.env.ADMIN_PORT || process.env.HTTP_PORT || 8080) + '/healthz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "--max-semi-space-size=32", "--no-allocation-site-pretenuring", "--heap-growing-percent=100", "dist/src/main.js"]
