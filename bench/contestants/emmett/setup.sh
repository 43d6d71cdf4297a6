# Called with the folder of npm's packages; lets emmett make its schema in the
# database that PGDATABASE names.
set -euo pipefail
cd "$1/.."
cat > schema.mjs <<'JS'
import { getPostgreSQLEventStore } from '@event-driven-io/emmett-postgresql';
const { PGUSER, PGDATABASE, PGHOST, PGPORT } = process.env;
const store = getPostgreSQLEventStore(
  `postgresql://${PGUSER}@localhost:${PGPORT}/${PGDATABASE}?host=${PGHOST}`);
await store.schema.migrate();
await store.close();
JS
node schema.mjs
