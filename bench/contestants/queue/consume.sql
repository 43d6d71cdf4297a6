WITH taken AS (
  DELETE FROM queue
  WHERE position IN (SELECT position FROM queue ORDER BY position LIMIT 100 FOR UPDATE SKIP LOCKED)
  RETURNING *)
SELECT array_agg(position), sum(length(data::text)) FROM taken;
