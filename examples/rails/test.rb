# Runs the application against the database of PGHOST, PGPORT, PGDATABASE, ..., which has
# to be fresh:  psql -f schema.sql && ruby test.rb
require "active_record"
require "minitest/autorun"
require_relative "event_store"
require_relative "order"

ActiveRecord::Base.establish_connection(adapter: "postgresql", database: ENV.fetch("PGDATABASE"),
                                        host: ENV["PGHOST"], port: ENV["PGPORT"], username: ENV["PGUSER"])

class OrdersTest < Minitest::Test
  MUG = { sku: "MUG", price_cents: 1200 }.freeze
  PEN = { sku: "PEN", price_cents: 300 }.freeze

  def setup
    @repository = OrderRepository.new
    @id = "#{name}-#{Process.clock_gettime(Process::CLOCK_REALTIME, :nanosecond)}"
  end

  def create(*items)
    CreateOrderCommand.new.call(id: @id, customer_id: 7, items: items, actor: "ann")
  end

  def test_create_and_pay
    create(MUG, PEN)
    order = @repository.find(@id)
    assert_equal ["created", 1500, 1], [order.status, order.total_amount_cents, order.version]

    order.receive_payment("credit_card")
    @repository.save(order)
    assert_equal "paid", @repository.find(@id).status
    assert_equal %w[OrderCreated PaymentReceived], EventStore.read_stream(order.stream).map(&:type)
    assert_equal "ann", EventStore.read_stream(order.stream).first.metadata["actor"]
  end

  def test_the_read_model_is_up_to_date_at_once
    create(MUG)
    order = @repository.find(@id)
    order.add_item(PEN)
    order.receive_payment("invoice")
    @repository.save(order)
    row = OrderReadModel.find(order.stream)
    assert_equal ["paid", 1500, 7], [row.status, row.total_amount_cents, row.customer_id]
  end

  def test_a_stale_order_is_a_conflict
    create(MUG)
    mine, yours = @repository.find(@id), @repository.find(@id)
    mine.add_item(PEN)
    @repository.save(mine)
    yours.receive_payment("invoice")
    error = assert_raises(EventStore::VersionConflict) { @repository.save(yours) }
    assert_match(/expected version 1, actual version 2/, error.message)
  end

  def test_rules_of_the_business
    assert_raises(Order::Invalid) { create }
    create(MUG)
    order = @repository.find(@id)
    order.receive_payment("invoice")
    @repository.save(order)
    assert_raises(Order::Invalid) { @repository.find(@id).add_item(PEN) }
    assert_raises(ActiveRecord::RecordNotFound) { @repository.find("none") }
  end

  def test_handlers_after_the_commit
    create(MUG, PEN)
    order = @repository.find(@id)
    order.receive_payment("invoice")
    @repository.save(order)
    EventStore.connection.execute("CALL es_run()")
    assert_equal %w[MUG PEN], EventStore.rows("SELECT sku FROM reservations WHERE order_id = $1 ORDER BY sku", order.stream).map { |r| r["sku"] }
    assert_equal 1, EventStore.value("SELECT count(*) FROM mails WHERE order_id = $1", order.stream)
  end

  def test_a_long_stream_has_a_snapshot
    create(MUG)
    order = @repository.find(@id)
    250.times { order.add_item(PEN) }
    @repository.save(order)
    assert_equal 251, @repository.find(@id).version
    assert_operator EventStore.value("SELECT max(version) FROM es.snapshots WHERE stream = $1", order.stream), :>=, 200
  end
end
