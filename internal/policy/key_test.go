package policy

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestLoadKeyMakesOneAndKeepsIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "tls_override.key")
	first, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if first == (Key{}) {
		t.Error("the key is all zero")
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 || info.Size() != 65 {
		t.Errorf("mode %v, %d bytes", info.Mode(), info.Size())
	}
	second, err := LoadKey(path)
	if err != nil || second != first {
		t.Errorf("read back another key, %v", err)
	}
	onlyFile(t, dir)

	other, err := LoadKey(filepath.Join(t.TempDir(), "tls_override.key"))
	if err != nil || other == first {
		t.Errorf("two directories, one key; %v", err)
	}
}

// onlyFile checks that no temporary file is left.
func onlyFile(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("directory holds %v, %v", entries, err)
	}
}

// All that start at once end with the same key, whoever made the file.
func TestLoadKeyRace(t *testing.T) {
	t.Parallel()
	for range 20 {
		dir := t.TempDir()
		path := filepath.Join(dir, "tls_override.key")
		keys := make([]Key, 16)
		errs := make([]error, len(keys))
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range keys {
			wg.Add(1)
			go func() {
				defer wg.Done()
				<-start
				keys[i], errs[i] = LoadKey(path)
			}()
		}
		close(start)
		wg.Wait()
		for i := range keys {
			if errs[i] != nil || keys[i] != keys[0] {
				t.Fatalf("loader %d: %v, same key %v", i, errs[i], keys[i] == keys[0])
			}
		}
		onlyFile(t, dir)
	}
}

func TestLoadKeyRefuses(t *testing.T) {
	t.Parallel()
	good := strings.Repeat("ab", 32) + "\n"
	const damaged = "damaged (not 64 hexadecimal digits and a line feed): restore it from a backup, " +
		"or remove it: a new key is made, and messages already queued lose their overrides"
	tests := []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"good", good, 0o600, ""},
		{"read-only", good, 0o400, ""},
		{"empty", "", 0o600, damaged},
		{"short", good[:40], 0o600, damaged},
		{"no line feed", good[:64], 0o600, damaged},
		{"long", good + "x", 0o600, damaged},
		{"huge", strings.Repeat(good, 100000), 0o600, damaged},
		{"zeroed", strings.Repeat("\x00", 65), 0o600, damaged},
		{"group may read", good, 0o640, "permissions 0640 let others in: chmod 600 it if nobody used them, else remove it, and a new key is made"},
		{"world may write", good, 0o602, "permissions 0602 let others in: chmod 600 it if nobody used them, else remove it, and a new key is made"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadKey(path)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if want := "override key " + path + ": " + test.want; err == nil || err.Error() != want {
				t.Errorf("got %v\nwant %s", err, want)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != test.content {
				t.Errorf("the file was changed; %v", err)
			}
		})
	}
}

func TestLoadKeyWithoutAPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := LoadKey(dir); err == nil || !strings.Contains(err.Error(), dir+": not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	missing := filepath.Join(dir, "missing", "key")
	if _, err := LoadKey(missing); err == nil || !strings.Contains(err.Error(), "cannot make the override key "+missing) {
		t.Errorf("no directory: %v", err)
	}
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink(missing, dangling); err != nil {
		t.Fatal(err)
	}
	if k, err := LoadKey(dangling); err == nil {
		t.Errorf("a dangling link: %v", k)
	}
}

func TestKeyIsNotPrinted(t *testing.T) {
	t.Parallel()
	k := Key{0xde, 0xad, 0xbe, 0xef}
	text := fmt.Sprintf("%v %s %+v %#v %v", k, k, struct{ K Key }{k}, k, &k)
	if strings.Contains(text, "222") || strings.Contains(strings.ToLower(text), "de") && !strings.Contains(text, "hidden") {
		t.Errorf("printed: %s", text)
	}
	if got := strings.Count(text, "hidden"); got != 5 {
		t.Errorf("%d of 5 hidden: %s", got, text)
	}
}
