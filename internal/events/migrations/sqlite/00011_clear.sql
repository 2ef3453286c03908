-- +goose Up

-- Whoever asks for what left in clear wants the few among many.
CREATE INDEX events_clear ON events (ts, id) WHERE content_sent = 'clear';

-- +goose Down
DROP INDEX events_clear;
