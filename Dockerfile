# The official PostgreSQL image with the extension:
#
#   docker build -t postgres-eventsourcing .
#   docker run -e POSTGRES_PASSWORD=secret postgres-eventsourcing
#
# then CREATE EXTENSION eventsourcing in a database.
ARG PG_MAJOR=17
FROM postgres:${PG_MAJOR}-trixie AS build
ARG PG_MAJOR
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev make postgresql-server-dev-${PG_MAJOR}
WORKDIR /src
COPY . .
RUN make && make install DESTDIR=/dest

FROM postgres:${PG_MAJOR}-trixie
COPY --from=build /dest/usr /usr
