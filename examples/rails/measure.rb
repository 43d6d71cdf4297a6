# Loading one order of 10,000 events: folded in Ruby, in the database, and from a
# snapshot.  The fastest of 25.  Wants a database with schema.sql.
require "active_record"
require_relative "event_store"
require_relative "order"

ActiveRecord::Base.establish_connection(adapter: "postgresql", database: ENV.fetch("PGDATABASE"),
                                        host: ENV["PGHOST"], port: ENV["PGPORT"], username: ENV["PGUSER"])

stream = "Order-measure-#{Process.pid}"
EventStore.append_to_stream(stream, [{ type: "OrderCreated", data: { customer_id: 1, items: [], total_amount_cents: 0 } }])
EventStore.append_to_stream(stream, Array.new(9_999) { |i| { type: "ItemAdded", data: { item: { sku: "S#{i}", price_cents: i } } } })

def fold_in_ruby(stream)
  EventStore.read_stream(stream).each_with_object({}) do |event, state|
    case event.type
    when "OrderCreated" then state.update(event.data, "status" => "created")
    when "ItemAdded"
      state["items"] << event.data["item"]
      state["total_amount_cents"] += event.data["item"]["price_cents"]
    end
  end
end

# The fastest says most about the work, the others about the machine's other work.
def fastest
  times = Array.new(25) do
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    yield
    Process.clock_gettime(Process::CLOCK_MONOTONIC) - start
  end
  (times.min * 1000).round(1)
end

_, state = EventStore.load(stream)
raise "the folds differ" unless fold_in_ruby(stream).values_at("items", "total_amount_cents") == state.values_at("items", "total_amount_cents")

ruby = fastest { fold_in_ruby(stream) }
snapshot = fastest { EventStore.load(stream) }
total = fastest { EventStore.value("SELECT state->'total_amount_cents' FROM es_load($1)", stream) }
EventStore.connection.execute("SET eventsourcing.use_snapshots = off")
database = fastest { EventStore.load(stream) }
{ "folded in Ruby" => ruby, "folded in the database" => database, "from a snapshot" => snapshot,
  "from a snapshot, one value of the state" => total }.each do |what, ms|
  puts format("%-40s %7.1f ms  %5.1f times as fast", what, ms, ruby / ms)
end
