# The official PostgreSQL image with the extension:
#
#   docker build -t postgres-eventsourcing .
#   docker run -e POSTGRES_PASSWORD=secret postgres-eventsourcing
#
# then CREATE EXTENSION eventsourcing in a database.  docs/packages.md has more.
ARG PG_MAJOR=17

FROM postgres:${PG_MAJOR}-trixie AS build
ARG PG_MAJOR
# The image has PostgreSQL's own package archive among its sources.
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      gcc libc6-dev make "postgresql-server-dev-${PG_MAJOR}" \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ENV PG_CONFIG=/usr/lib/postgresql/${PG_MAJOR}/bin/pg_config
RUN make && make install DESTDIR=/dest

FROM postgres:${PG_MAJOR}-trixie
COPY --from=build /dest/ /
