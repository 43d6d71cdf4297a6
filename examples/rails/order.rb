# The aggregate: decisions, and the events that follow from them.
class Order
  class Invalid < StandardError; end

  attr_reader :id, :version, :uncommitted_events

  def initialize(id, version = 0, state = {})
    @id, @version, @state, @uncommitted_events = id, version, state, []
  end

  def self.create(id, customer_id:, items:)
    raise Invalid, "an order needs items" if items.empty?

    new(id).tap do |order|
      order.record("OrderCreated", customer_id: customer_id, items: items,
                                   total_amount_cents: items.sum { |i| i.fetch(:price_cents) })
    end
  end

  def add_item(item)
    raise Invalid, "a paid order does not change" if status == "paid"

    record("ItemAdded", item: item)
  end

  def receive_payment(method)
    raise Invalid, "the order is paid already" if status == "paid"

    record("PaymentReceived", payment_method: method)
  end

  def status = @state["status"]
  def total_amount_cents = @state["total_amount_cents"]
  def stream = "Order-#{id}"

  def record(type, **data)
    @uncommitted_events << { type: type, data: data }
  end

  def committed(version)
    @version = version
    @uncommitted_events = []
  end
end

# Finding and saving.  There is no replay here and no snapshot: the database
# folds the events and keeps its own snapshots.
class OrderRepository
  def find(id)
    version, state = EventStore.load("Order-#{id}")
    raise ActiveRecord::RecordNotFound, "Order #{id}" if version.zero?

    Order.new(id, version, state)
  end

  # All or nothing, and only on the version that the decisions were made on.
  def save(order)
    return if order.uncommitted_events.empty?

    order.committed(EventStore.append_to_stream(order.stream, order.uncommitted_events,
                                                expected_version: order.version))
  end
end

# The read model is an ordinary table to ActiveRecord.
class OrderReadModel < ActiveRecord::Base
  self.primary_key = "order_id"
  def readonly? = true
end

class CreateOrderCommand
  def initialize(repository = OrderRepository.new)
    @repository = repository
  end

  def call(id:, customer_id:, items:, actor:)
    EventStore.as(actor) { @repository.save(Order.create(id, customer_id: customer_id, items: items)) }
  end
end
