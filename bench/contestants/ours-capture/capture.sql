\ir ../floor/capture.sql

SELECT es_capture('customer', 'Customer', 'id');
