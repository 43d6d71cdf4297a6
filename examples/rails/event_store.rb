# The store as Ruby sees it: es_append_events(), es_read(), es_load().
module EventStore
  class VersionConflict < StandardError; end

  Event = Struct.new(:position, :stream, :version, :type, :data, :metadata, :recorded_at, keyword_init: true)

  module_function

  # Appends events, objects with a type and data, and returns the stream's new
  # version.  A version that is not the expected one is a VersionConflict.
  def append_to_stream(stream, events, expected_version: nil)
    json = events.map { |e| { type: e.fetch(:type), data: e.fetch(:data, {}) } }.to_json
    value("SELECT es_append_events($1, $2, $3)", stream, json, expected_version)
  end

  def read_stream(stream, from_version: 1)
    rows("SELECT * FROM es_read($1, $2)", stream, from_version).map do |row|
      Event.new(position: row["position"], stream: row["stream"], version: row["version"], type: row["type"],
                data: JSON.parse(row["data"]), metadata: JSON.parse(row["metadata"] || "{}"),
                recorded_at: row["recorded_at"])
    end
  end

  # Returns version and state, from the nearest snapshot.
  def load(stream)
    row = rows("SELECT version, state FROM es_load($1)", stream).first
    [row["version"], JSON.parse(row["state"])]
  end

  # Who acts, for the metadata of every event of the block's transaction.
  def as(actor)
    connection.transaction do
      value("SELECT set_config('eventsourcing.actor', $1, true)", actor)
      yield
    end
  end

  def connection
    ActiveRecord::Base.connection
  end

  # Errors are told apart by SQLSTATE, never by their text.
  def rows(sql, *args)
    connection.exec_query(sql, "EventStore", args.map { |a| ActiveRecord::Relation::QueryAttribute.new("", a, ActiveModel::Type::Value.new) }).to_a
  rescue ActiveRecord::StatementInvalid => e
    raise unless e.cause.is_a?(PG::Error) && e.cause.result&.error_field(PG::PG_DIAG_SQLSTATE) == "ZE001"
    raise VersionConflict, e.cause.result.error_field(PG::PG_DIAG_MESSAGE_DETAIL)
  end

  def value(sql, *args)
    rows(sql, *args).first.values.first
  end
end
