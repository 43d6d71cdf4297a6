-- Its clients make a call per event; one statement for all is kinder to it.
SELECT count(write_message(gen_random_uuid()::varchar, 'Order-' || :stream::text, e.type, e.data,
                           NULL, :version + e.n - 2))
FROM unnest(:types::text[], :datas::jsonb[]) WITH ORDINALITY AS e(type, data, n);
