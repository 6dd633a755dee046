ALTER TABLE keys ADD COLUMN items_per_minute INTEGER;
