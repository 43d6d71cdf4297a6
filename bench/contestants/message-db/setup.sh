# Called with the folder of npm's packages; installs as message-db's own
# install.sh does, into the database that PGDATABASE names.
set -euo pipefail
cd "$1/@eventide/message-db/database"
export DATABASE_NAME=$PGDATABASE CREATE_DATABASE=off
bash ./install.sh
# fills are made by the owner, who must see the same schema
psql -X -q -c 'GRANT USAGE ON SCHEMA bench TO message_store'
