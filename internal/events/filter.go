package events

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// Field is something that events can be asked for, by its name in the document.
type Field string

// The fields.
const (
	FieldID              Field = "id"
	FieldEvent           Field = "event"
	FieldSeverity        Field = "severity"
	FieldReason          Field = "reason"
	FieldSender          Field = "sender"
	FieldSenderDomain    Field = "sender-domain"
	FieldRecipient       Field = "recipient"
	FieldRecipientDomain Field = "recipient-domain"
	FieldMessageID       Field = "message-id"
	FieldQueueID         Field = "queue-id"
	FieldMXHost          Field = "mx-host"
	FieldSubject         Field = "subject"
	FieldList            Field = "list"
	FieldTags            Field = "tags"
	FieldAttachment      Field = "attachment"
	FieldSize            Field = "size"
	FieldTLS             Field = "tls"
	FieldVerified        Field = "certificate-verified"
	FieldSent            Field = "content-sent"
)

// kind is how a column is compared.
type kind int

const (
	textKind kind = iota
	idKind        // letter case counts
	domainKind
	tagsKind
	filesKind
	numberKind
	flagKind
)

// field is the column of a Field. The names are the only words of a statement
// that depend on a question.
type field struct {
	column string
	kind   kind
	limit  int // octets that the column has
}

var fields = map[Field]field{
	FieldID:              {"id", idKind, maxID},
	FieldEvent:           {"event", textKind, maxWord},
	FieldSeverity:        {"severity", textKind, maxWord},
	FieldReason:          {"reason", textKind, maxWord},
	FieldSender:          {"sender", textKind, maxAddress},
	FieldSenderDomain:    {"sender_domain", domainKind, maxText},
	FieldRecipient:       {"recipient", textKind, maxAddress},
	FieldRecipientDomain: {"recipient_domain", domainKind, maxText},
	FieldMessageID:       {"message_id", textKind, maxText},
	FieldQueueID:         {"queue_id", textKind, maxText},
	FieldMXHost:          {"mx_host", textKind, maxDomain},
	FieldSubject:         {"subject", textKind, maxText},
	FieldList:            {"list", textKind, maxText},
	FieldTags:            {"tags", tagsKind, maxText},
	FieldAttachment:      {"tags", filesKind, maxText},
	FieldSize:            {"size", numberKind, 0},
	FieldTLS:             {"tls", flagKind, 0},
	FieldVerified:        {"verified", flagKind, 0},
	FieldSent:            {"content_sent", textKind, maxWord},
}

// Known reports whether there is such a field.
func (f Field) Known() bool { _, ok := fields[f]; return ok }

// Filter is a condition: And, Or, Not, Is, Contains or Compare. A nil Filter
// lets everything through.
type Filter interface {
	build(b *builder, depth int) error
}

// And is true when all of its conditions are; with none it is true.
type And []Filter

// Or is true when one of its conditions is; with none it is false.
type Or []Filter

// Not is true when its condition is not. What a document does not say is not
// true: Not{Is{FieldTLS, "true"}} finds deliveries in clear and those without a
// connection.
type Not struct{ Filter Filter }

// Is is true when the field is one of the values, whatever their letter case; tags
// and names of attachments, which are those of the message also where an event does
// not repeat them, when one of them is. The values of tls and certificate-verified
// are true and false, those of size are numbers. The empty value means that the
// document does not have the field.
type Is struct {
	Field  Field
	Values []string
}

// Contains is true when the text is somewhere in a field of text.
type Contains struct {
	Field Field
	Text  string
}

// Comparison is how Compare compares.
type Comparison string

// The comparisons.
const (
	Less    Comparison = "<"
	Greater Comparison = ">"
	AtMost  Comparison = "<="
	AtLeast Comparison = ">="
)

// Compare is true when the size is less or greater than a number. A size that a
// document does not say is 0.
type Compare struct {
	Field Field // FieldSize
	How   Comparison
	Value int64
}

// ErrFilter is what errors about a question wrap: the asker's mistake.
var ErrFilter = errors.New("filter")

// Bounds of a filter. A database plans thousands of conditions for longer than
// it takes to answer.
const (
	maxDepth  = 16
	maxValues = 1000 // of all conditions together
)

func (f And) build(b *builder, depth int) error { return b.list(f, " AND ", "1=1", depth) }
func (f Or) build(b *builder, depth int) error  { return b.list(f, " OR ", "1=0", depth) }

func (f Not) build(b *builder, depth int) error {
	b.text("NOT (")
	defer b.text(")")
	return b.filter(f.Filter, depth+1)
}

func (f Is) build(b *builder, _ int) error {
	col, ok := fields[f.Field]
	switch {
	case !ok:
		return fmt.Errorf("%w: there is no field %q", ErrFilter, f.Field)
	case len(f.Values) == 0:
		b.text("1=0")
		return nil
	case col.kind == tagsKind:
		return b.tags(tagMark, f.Values)
	case col.kind == filesKind:
		return b.tags(fileMark, f.Values)
	case f.isClear() && !b.keyed:
		// Word for word as two indexes have it. A keyed statement has a better one.
		b.text("content_sent = 'clear'")
		return b.count(1)
	}
	begin, end := b.inPart(f.Field)
	b.text(begin + col.column + " IN (")
	for i, v := range f.Values {
		value, err := col.value(f.Field, v)
		if err != nil {
			return err
		}
		if i > 0 {
			b.text(",")
		}
		b.arg(value)
	}
	b.text(")" + end)
	return b.count(len(f.Values))
}

// isClear reports whether the filter asks for events whose text left in clear.
func (f Is) isClear() bool {
	return f.Field == FieldSent && len(f.Values) == 1 && fold(f.Values[0], maxWord) == "clear"
}

// value brings what was asked for into the form that the column has.
func (f field) value(name Field, v string) (any, error) {
	switch f.kind {
	case idKind:
		return fold1(v, f.limit), nil
	case domainKind:
		return normalize(v), nil
	case numberKind:
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: unexpected %q, expected a number", ErrFilter, name, v)
		}
		return n, nil
	case flagKind:
		n := slices.Index([]string{"", "false", "true"}, fold(v, maxWord))
		if n < 0 {
			return nil, fmt.Errorf("%w: %s: unexpected %q, expected true or false", ErrFilter, name, v)
		}
		return int64(n - 1), nil
	}
	return fold(v, f.limit), nil
}

func (f Contains) build(b *builder, _ int) error {
	col, ok := fields[f.Field]
	if !ok || col.kind != textKind && col.kind != domainKind {
		return fmt.Errorf("%w: there is no field %q with text in it", ErrFilter, f.Field)
	}
	b.text(b.indexOf + "(" + col.column + ", ")
	b.arg(fold(f.Text, col.limit))
	b.text(") > 0")
	return b.count(1)
}

func (f Compare) build(b *builder, _ int) error {
	col := fields[f.Field]
	if col.kind != numberKind {
		return fmt.Errorf("%w: there is no field %q with a number in it", ErrFilter, f.Field)
	}
	switch f.How {
	case Less, Greater, AtMost, AtLeast:
	default:
		return fmt.Errorf("%w: unexpected %q, expected <, >, <= or >=", ErrFilter, string(f.How))
	}
	b.text(col.column + " " + string(f.How) + " ")
	b.arg(f.Value)
	return b.count(1)
}
