CALL es_rebuild('totals');
