-- How many were handled; the median and the 99th percentile, in ms.
CALL es_wait('bench', es_safe_position(), '60 seconds');
SELECT count(*), 1000 * extract(epoch FROM percentile_disc(.5) WITHIN GROUP (ORDER BY latency)),
       1000 * extract(epoch FROM percentile_disc(.99) WITHIN GROUP (ORDER BY latency))
FROM handled;
