-- +goose Up
DROP INDEX events_sender_domain_recipient;
CREATE INDEX events_sender_domain_recipient ON events (part, sender_domain, recipient, ts);

-- +goose Down
DROP INDEX events_sender_domain_recipient;
CREATE INDEX events_sender_domain_recipient ON events (sender_domain, recipient, ts);
