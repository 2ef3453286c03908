-- +goose Up
DROP INDEX events_queue_id;
CREATE INDEX events_queue_id ON events (part, queue_id, sender_domain);

-- +goose Down
DROP INDEX events_queue_id;
CREATE INDEX events_queue_id ON events (queue_id, sender_domain);
