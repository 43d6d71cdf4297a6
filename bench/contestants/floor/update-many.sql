UPDATE customer SET lock_version = lock_version + 1, updated_at = now() WHERE id <= :events;
