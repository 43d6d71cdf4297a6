SELECT es_create_subscription('bench');
