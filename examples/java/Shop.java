import java.sql.*;
import java.util.*;
import java.util.function.Function;

/**
 * An order desk over the event store, with JDBC (Debian: libpostgresql-jdbc-java).
 *
 * Copy what you need: append with retry, a batch, load, a consumer, and reading your own
 * writes. Run as a program it tries all of it on the (fresh) database whose JDBC URL is its
 * argument, and prints one line for each:
 *
 *   java -cp /usr/share/java/postgresql.jar Shop.java 'jdbc:postgresql://localhost/shop?user=me'
 *
 * Behind a pooler in transaction mode add prepareThreshold=0 to the URL.
 */
public class Shop {
  record Loaded(long version, String state) {}

  record Delivery(long position, String stream, String type, int attempt) {}

  interface Handler {
    void handle(Delivery event) throws Exception;
  }

  /** The version and state of a stream. */
  static Loaded load(Connection db, String stream) throws SQLException {
    try (var query = db.prepareStatement("SELECT version, state FROM es_load(?)")) {
      query.setString(1, stream);
      try (var rows = query.executeQuery()) {
        rows.next();
        return new Loaded(rows.getLong(1), rows.getString(2));
      }
    }
  }

  /** Appends all events of a JSON array or none; returns the stream's new version. */
  static long append(Connection db, String stream, String events, Long expectedVersion) throws SQLException {
    try (var query = db.prepareStatement("SELECT es_append_events(?, ?::jsonb, ?)")) {
      query.setString(1, stream);
      query.setString(2, events);
      query.setObject(3, expectedVersion, Types.BIGINT);
      try (var rows = query.executeQuery()) {
        rows.next();
        return rows.getLong(1);
      }
    }
  }

  /**
   * Appends what decide returns for the state, on the version that it saw. A rival that was
   * faster is SQLSTATE ZE001: load again, decide again.
   */
  static long decideAndAppend(Connection db, String stream, Function<String, String> decide) throws SQLException {
    for (int i = 0; i < 10; i++) {
      var loaded = load(db, stream);
      var events = decide.apply(loaded.state());
      if (events == null) return loaded.version();
      try {
        return append(db, stream, events, loaded.version());
      } catch (SQLException error) {
        if (!"ZE001".equals(error.getSQLState())) throw error;
      }
    }
    throw new IllegalStateException(stream + ": 10 conflicts in a row");
  }

  /**
   * Hands a batch of events to the handler; returns how many there were. What the handler
   * throws is a failed attempt: the event comes again later, and the others of its stream
   * wait behind it.
   */
  static int consume(Connection db, String subscription, String consumer, Handler handler) throws SQLException {
    var events = new ArrayList<Delivery>();
    try (var fetch = db.prepareStatement("SELECT position, stream, type, attempt FROM es_fetch(?, ?)")) {
      fetch.setString(1, subscription);
      fetch.setString(2, consumer);
      try (var rows = fetch.executeQuery()) {
        while (rows.next()) events.add(new Delivery(rows.getLong(1), rows.getString(2), rows.getString(3), rows.getInt(4)));
      }
    }
    var failed = new HashSet<String>();
    for (var event : events) {
      if (failed.contains(event.stream())) continue;
      String sql = "SELECT es_ack(?, ?, ARRAY[?::bigint])";
      String error = null;
      try {
        handler.handle(event);
      } catch (Exception e) {
        sql = "SELECT es_nack(?, ?, ?::bigint, ?)";
        error = e.getMessage();
        failed.add(event.stream());
      }
      try (var answer = db.prepareStatement(sql)) {
        answer.setString(1, subscription);
        answer.setString(2, consumer);
        answer.setLong(3, event.position());
        if (error != null) answer.setString(4, error);
        answer.executeQuery().close();
      }
    }
    return events.size();
  }

  static void check(String what, boolean good) {
    System.out.println((good ? "ok" : "not ok") + " - java: " + what);
  }

  static void execute(Connection db, String sql) throws SQLException {
    try (var statement = db.createStatement()) {
      statement.execute(sql);
    }
  }

  static long number(Connection db, String sql) throws SQLException {
    try (var statement = db.createStatement(); var rows = statement.executeQuery(sql)) {
      rows.next();
      return rows.getLong(1);
    }
  }

  public static void main(String[] args) throws Exception {
    if (args.length != 1) {
      System.err.println("usage: java -cp postgresql.jar Shop.java 'jdbc:postgresql://HOST/DATABASE?user=USER'");
      System.exit(64);
    }
    try (var db = DriverManager.getConnection(args[0]); var rival = DriverManager.getConnection(args[0])) {
      execute(db, "CREATE EXTENSION IF NOT EXISTS eventsourcing");
      execute(db, "SELECT es_create_store()");
      execute(db, """
          SELECT es_create_aggregate('Order', rules => '{
            "OrderCreated": {"$set": {"status": "created", "total": "$.total"}},
            "ItemAdded": {"$inc": {"total": "$.price"}},
            "OrderPaid": {"$set": {"status": "paid"}}}')""");
      execute(db, "CREATE TABLE order_totals (stream text PRIMARY KEY, total bigint)");
      execute(db, """
          SELECT es_create_projection('totals', tables => '{order_totals}', mode => 'async', script => $$
            INSERT INTO order_totals SELECT stream, (data->>'total')::bigint FROM new_events WHERE type = 'OrderCreated';
            UPDATE order_totals t SET total = t.total + (e.data->>'price')::bigint
              FROM new_events e WHERE e.stream = t.stream AND e.type = 'ItemAdded' $$)""");
      execute(db, "SELECT es_create_subscription('mail', types => '{OrderPaid}')");

      var order = "Order-" + UUID.randomUUID();
      check("a new stream", append(db, order, "[{\"type\": \"OrderCreated\", \"data\": {\"total\": 5000}}]", 0L) == 1);

      // a rival appends between our load and our append, once
      var calls = new int[1];
      Function<String, String> pay = state -> {
        try {
          if (calls[0]++ == 0) append(rival, order, "[{\"type\": \"ItemAdded\", \"data\": {\"price\": 700}}]", null);
        } catch (SQLException e) {
          throw new IllegalStateException(e);
        }
        return state.contains("\"paid\"") ? null : "[{\"type\": \"OrderPaid\"}]";
      };
      check("append with retry", decideAndAppend(db, order, pay) == 3 && calls[0] == 2);
      check("load", load(db, order).equals(new Loaded(3, "{\"total\": 5700, \"status\": \"paid\"}")));
      check("nothing to do", decideAndAppend(db, order, pay) == 3);

      var batch = new StringJoiner(", ", "[", "]");
      for (int i = 0; i < 100; i++)
        batch.add("{\"type\": \"ItemAdded\", \"data\": {\"price\": %d}, \"event_id\": \"%s\"}".formatted(i, UUID.randomUUID()));
      check("a batch", append(db, order, batch.toString(), 3L) == 103);
      check("the same batch again", append(db, order, batch.toString(), 3L) == 103);

      // read your own writes from a model that follows behind
      execute(db, "CALL es_run('totals')");
      long position = number(db, "SELECT max(position) FROM es_read('" + order + "')");
      execute(db, "CALL es_wait('totals', " + position + ")");
      check("read your writes", number(db, "SELECT total FROM order_totals WHERE stream = '" + order + "'") == 5700 + 4950);

      var attempts = new ArrayList<Integer>();
      Handler mail = event -> {
        attempts.add(event.attempt());
        if (event.attempt() == 1) throw new IllegalStateException("the mail server is away");
      };
      consume(db, "mail", "java", mail);
      check("a failed attempt", attempts.equals(List.of(1)));
      while (attempts.size() < 2) consume(db, "mail", "java", mail);
      check("comes again", attempts.equals(List.of(1, 2)));
      check("and then no more", consume(db, "mail", "java", mail) == 0);
    }
  }
}
