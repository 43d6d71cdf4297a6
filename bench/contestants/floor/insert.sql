INSERT INTO customer (id, name, email, street, city)
VALUES (1000000000 + :stream, 'Ada Lovelace', 'ada@example.com', 'Harbour Street 7', 'Bergen');
