package remotetls

import (
	"strconv"
	"strings"
	"time"

	"github.com/foxcpp/maddy/framework/config"
	"github.com/foxcpp/maddy/framework/module"

	"tlscontrol/internal/downgrade"
)

// actionDirective reads what to do about a host that gives less than it proved.
func actionDirective(_ *config.Map, node config.Node) (interface{}, error) {
	arg, err := oneOf(node, string(downgrade.Log), string(downgrade.Defer), string(downgrade.Off))
	return downgrade.Action(arg), err
}

// What hosts proved is remembered for a day at least, because it is noted once an
// hour, and for a year at most: who writes more has mistaken the unit.
const (
	defaultMemory = 30 * 24 * time.Hour
	minMemory     = 24 * time.Hour
	maxMemory     = 366 * 24 * time.Hour
)

// daysDirective reads for how long something is remembered: in days, which
// durations elsewhere do not have, or as a duration. 0 is not at all.
func daysDirective(_ *config.Map, node config.Node) (interface{}, error) {
	const expected = "a time from 1d to 366d, such as 30d, or off"
	arg, err := oneArg(node, expected)
	if err != nil {
		return nil, err
	}
	if arg == "off" || arg == "0" {
		return time.Duration(0), nil
	}
	var d time.Duration
	if days, ok := strings.CutSuffix(arg, "d"); ok {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16) // more would overflow
		d = time.Duration(n) * 24 * time.Hour
	} else {
		d, err = time.ParseDuration(arg)
	}
	if err != nil || d < minMemory || d > maxMemory {
		return nil, unexpected(node, arg, expected)
	}
	return d, nil
}

// memory is what hosts proved before: in a file of the target's own, since what a
// host proved at another port, or with other roots, proves nothing here. A block
// without a name has none; maddy's administration commands only read it.
func (d *settings) memory(instName string) downgrade.Config {
	cfg := downgrade.Config{Keep: d.downgradeMemory, Action: d.downgradeAction, ReadOnly: module.NoRun}
	if instName != "" && d.stateDir != "" {
		cfg.Path = downgrade.File(d.stateDir, instName)
	}
	return cfg
}

// checkMemory refuses to hold mail back by what hosts proved if that is not known:
// mail would go in clear to hosts that it is there to protect.
func (d *settings) checkMemory(instName string) error {
	cfg := d.memory(instName)
	if cfg.Action != downgrade.Defer || cfg.Path == "" || cfg.ReadOnly {
		return nil
	}
	err := downgrade.Check(cfg.Path)
	if err == nil {
		return nil
	}
	return config.NodeErr(d.seen["downgrade_action"], "downgrade_action: unexpected defer, because what hosts proved before cannot be read (%v): "+
		"let the user that runs maddy read and write that file, or move it away and have hosts learned anew, or choose log", err)
}
