SELECT * FROM get_category_messages('Order', :position, 1000);
