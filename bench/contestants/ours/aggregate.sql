SELECT es_create_aggregate('Order', snapshot_every => :snapshot_every, rules => '{
  "OrderCreated":    {"$set": {"status": "created", "customer": "$.customer.id", "total": 0, "items": 0, "paid": 0}},
  "ItemAdded":       {"$inc": {"total": "$.amount", "items": 1}},
  "PaymentReceived": {"$set": {"status": "paid"}, "$inc": {"paid": "$.amount"}},
  "AddressChanged":  {"$set": {"email": "$.customer.email"}},
  "KeyAdded":        {"$merge": "$"}
}');
