package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/foxcpp/maddy"
	parser "github.com/foxcpp/maddy/framework/cfgparser"
)

func TestKeysDirective(t *testing.T) {
	t.Parallel()
	const none = "error: the configuration has no http_api block with a keys directive"
	for _, tt := range []struct{ name, conf, want string }{
		{"no endpoint", "smtp tcp://127.0.0.1:0 {\nkeys &other\n}", none},
		{"no directive", "http_api tcp://127.0.0.1:0 {\npolicy &p\n}", none},
		{"one", "http_api tcp://127.0.0.1:0 {\npolicy &p\nkeys &api_keys\n}", "line 3 [&api_keys]"},
		{"the same twice", "http_api a {\nkeys sql_table {\ndriver sqlite3\n}\n}\nhttp_api b {\nkeys sql_table {\ndriver sqlite3\n}\n}", "line 2 [sql_table]"},
		{"two", "http_api a {\nkeys sql_table {\ndsn a\n}\n}\nhttp_api b {\nkeys sql_table {\ndsn b\n}\n}",
			"error: the http_api blocks use several tables of keys, at maddy.conf:2 and maddy.conf:7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			nodes, err := parser.Read(strings.NewReader(tt.conf), "maddy.conf")
			if err != nil {
				t.Fatal(err)
			}
			var endpoints []maddy.ModInfo
			for _, node := range nodes {
				endpoints = append(endpoints, maddy.ModInfo{Cfg: node})
			}
			node, err := keysDirective(endpoints)
			got := fmt.Sprintf("line %d %v", node.Line, node.Args)
			if err != nil {
				got = "error: " + err.Error()
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
