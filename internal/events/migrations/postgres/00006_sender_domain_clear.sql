-- +goose Up

-- For keys of one domain.
CREATE INDEX events_sender_domain_clear ON events (sender_domain, ts, id) WHERE content_sent = 'clear';

-- +goose Down
DROP INDEX events_sender_domain_clear;
