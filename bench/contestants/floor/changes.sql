-- How often rows of the table were written.
SELECT sum(1 + lock_version) FROM customer;
