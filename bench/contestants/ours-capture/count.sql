\ir ../ours/count.sql
