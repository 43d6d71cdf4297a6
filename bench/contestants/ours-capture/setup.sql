\ir ../ours/setup.sql
