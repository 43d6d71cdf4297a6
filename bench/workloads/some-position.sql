\set position random(1, :head - 1000)
