INSERT INTO events (stream, version, type, data)
VALUES ('Order-' || :stream::text, :version + 1, 'ItemAdded', :data)
RETURNING version;
