package eventstore

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/foxcpp/maddy/framework/config"

	"tlscontrol/internal/events"
	"tlscontrol/internal/events/journal"
	"tlscontrol/internal/postgres"
	"tlscontrol/module/blocks"
)

// Defaults and bounds.
const (
	defaultKeep    = 30 * day
	maxKeep        = 36500 * day
	defaultJournal = 1 << 30
	minJournal     = 1 << 20
	maxJournal     = 1 << 40
	day            = 24 * time.Hour
)

// defaultHeaders are the fields that the HTTP API filters by, and shows.
var defaultHeaders = []string{"message-id", "from", "to", "subject"}

// settings is a block that was read and found good.
type settings struct {
	driver  string
	dsn     string
	keep    time.Duration // 0: for ever
	journal string
	size    int64 // of the journal
	headers []string
}

const everyDirective = "driver, dsn, keep, journal, journal_size or headers"

// parse reads the directives of a block. Paths are absolute then. Every error
// carries file and line.
func parse(block config.Node, instName, stateDir string) (settings, error) {
	s := settings{driver: events.SQLite, keep: defaultKeep, size: defaultJournal, headers: defaultHeaders}
	seen := map[string]config.Node{}
	for _, node := range block.Children {
		earlier, twice := seen[node.Name]
		var err error
		switch {
		case node.Children != nil:
			err = fmt.Errorf("%s: a block is not allowed here", node.Name)
		case twice:
			err = fmt.Errorf("%s: stands here twice, first in line %d", node.Name, earlier.Line)
		default:
			err = s.read(node)
		}
		if err != nil {
			return settings{}, config.NodeErr(node, "%v", err)
		}
		seen[node.Name] = node
	}
	if err := s.complete(block, seen["dsn"], instName, stateDir); err != nil {
		return settings{}, err
	}
	return s, nil
}

// read reads one directive.
func (s *settings) read(node config.Node) (err error) {
	switch node.Name {
	case "driver":
		s.driver, err = one(node, "sqlite3 or postgres")
		if err == nil && s.driver != events.SQLite && s.driver != events.Postgres {
			err = fmt.Errorf("driver: unexpected %q, expected sqlite3 or postgres", s.driver)
		}
	case "dsn":
		if len(node.Args) == 0 {
			return errors.New("dsn: expected the path of a file, or a connection string")
		}
		s.dsn = strings.Join(node.Args, " ")
	case "keep":
		s.keep, err = readKeep(node)
	case "journal":
		s.journal, err = one(node, "a directory")
	case "journal_size":
		s.size, err = readSize(node)
	case "headers":
		s.headers, err = blocks.HeaderNames(node.Args)
	default:
		err = fmt.Errorf("unexpected directive %q, expected %s", node.Name, everyDirective)
	}
	return err
}

// one returns the only argument of a directive.
func one(node config.Node, expected string) (string, error) {
	switch {
	case len(node.Args) == 0 || node.Args[0] == "":
		return "", fmt.Errorf("%s: expected %s", node.Name, expected)
	case len(node.Args) > 1:
		return "", fmt.Errorf("%s: unexpected %q after %q, expected %s", node.Name, node.Args[1], node.Args[0], expected)
	}
	return node.Args[0], nil
}

// readKeep reads a time in days or hours.
func readKeep(node config.Node) (time.Duration, error) {
	const expected = "a time from 1h to 36500d, such as 30d or 12h, or forever"
	arg, err := one(node, expected)
	if err != nil {
		return 0, err
	}
	if arg == "forever" {
		return 0, nil
	}
	unit := time.Hour
	number, ok := strings.CutSuffix(arg, "h")
	if !ok {
		number, ok = strings.CutSuffix(arg, "d")
		unit = day
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if !ok || err != nil || n == 0 || n > uint64(maxKeep/unit) {
		return 0, fmt.Errorf("keep: unexpected %q, expected %s", arg, expected)
	}
	return time.Duration(n) * unit, nil
}

// readSize reads a number of octets, as maddy writes them.
func readSize(node config.Node) (int64, error) {
	const expected = "a size from 1M to 1024G, such as 1G"
	arg, err := one(node, expected)
	if err != nil {
		return 0, err
	}
	n, err := config.ParseDataSize(arg)
	if err != nil || n < minJournal || n > maxJournal {
		return 0, fmt.Errorf("journal_size: unexpected %q, expected %s", arg, expected)
	}
	return int64(n), nil
}

// complete fills in what the block leaves to us, and checks what depends on the
// driver. dsn is the directive.
func (s *settings) complete(block, dsn config.Node, instName, stateDir string) error {
	// The name of a block can hold anything.
	file := filepath.Join(stateDir, folder, url.PathEscape(instName))
	if instName == "" {
		file = filepath.Join(stateDir, folder, "inline")
	}
	if s.journal == "" {
		s.journal = file + ".journal"
	}
	s.journal = inStateDir(stateDir, s.journal)
	if s.driver == events.Postgres {
		if s.dsn == "" {
			return config.NodeErr(block, "dsn: expected a connection string, because of driver postgres")
		}
		if err := postgres.CheckDSN(s.dsn); err != nil {
			return config.NodeErr(dsn, "dsn: %v", err)
		}
		return nil
	}
	if s.dsn == "" {
		s.dsn = file + ".db"
	}
	// These have a meaning to SQLite; a question mark would cut the path off.
	if strings.HasPrefix(s.dsn, ":") || strings.HasPrefix(s.dsn, "file:") || strings.Contains(s.dsn, "?") {
		return config.NodeErr(dsn, "dsn: unexpected %q, expected the path of a file", s.dsn)
	}
	s.dsn = inStateDir(stateDir, s.dsn)
	return nil
}

// folder is where files are that the block does not name.
const folder = "event_store"

// inStateDir resolves a relative path as all of maddy's are: from the state
// directory, which is the working directory unless changing to it failed.
func inStateDir(stateDir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(stateDir, path)
}

// config is what the store is made of.
func (s *settings) config() events.Config {
	return events.Config{
		Driver: s.driver, DSN: s.dsn, Keep: s.keep, Headers: s.headers,
		Journal: journal.Config{Dir: s.journal, MaxBytes: s.size},
	}
}
