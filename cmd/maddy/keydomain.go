package main

import (
	"fmt"

	"github.com/foxcpp/maddy"
	"github.com/urfave/cli/v2"

	"tlscontrol/internal/api"
)

// warnOfDomain says so if no http_api block is for the domain of a key: nobody will get
// in with it before one is. A block without sending_domains is for all.
func warnOfDomain(c *cli.Context, domain string, endpoints []maddy.ModInfo) {
	var blocks int
	for _, e := range endpoints {
		if e.Cfg.Name != "http_api" {
			continue
		}
		blocks++
		var sending []string
		for _, node := range e.Cfg.Children {
			if node.Name == "sending_domains" {
				sending = append(sending, node.Args...)
			}
		}
		if len(sending) == 0 || api.Covers(sending, domain) {
			return
		}
	}
	if blocks > 0 {
		fmt.Fprintf(c.App.ErrWriter, "maddy: warning: sending_domains of http_api does not have %s: until it does, the key opens nothing\n", oneLine(domain))
	}
}
