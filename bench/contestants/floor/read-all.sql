-- Not safe: a reader that remembers the last position can skip an event.
SELECT * FROM events WHERE position > :position ORDER BY position LIMIT 1000;
