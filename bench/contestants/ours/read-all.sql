SELECT * FROM es_read_all(:position, 1000);
