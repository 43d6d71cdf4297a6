\ir ../floor/projection.sql

CREATE FUNCTION project() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO totals AS t VALUES (NEW.stream, 1, (NEW.data ->> 'amount')::bigint)
  ON CONFLICT (stream) DO UPDATE SET events = t.events + 1, amount = t.amount + EXCLUDED.amount;
  RETURN NULL;
END $$;

CREATE TRIGGER project AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION project();
