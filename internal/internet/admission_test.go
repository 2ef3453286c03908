package internet

import (
	"net/netip"
	"testing"
)

func TestAdmission(t *testing.T) {
	t.Parallel()
	network := func(text string) netip.Prefix {
		n, err := Network(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	none, all := Admission{}, Admission{All: true}
	some := Admission{Networks: []netip.Prefix{network("10.1.0.0/16"), network("192.168.1.7"), network("fd00:1::/32"), network("::1")}}
	for text, want := range map[string][3]bool{ // none, some, all
		"8.8.8.8":              {true, true, true},
		"2606:4700::1111":      {true, true, true},
		"10.1.255.255":         {false, true, true},
		"10.2.0.0":             {false, false, true},
		"192.168.1.7":          {false, true, true},
		"192.168.1.8":          {false, false, true},
		"127.0.0.1":            {false, false, true},
		"169.254.169.254":      {false, false, true},
		"::1":                  {false, true, true},
		"fd00:1:2::3":          {false, true, true},
		"fd00:2::3":            {false, false, true},
		"::ffff:8.8.8.8":       {false, false, true},
		"::ffff:10.1.2.3":      {false, false, true},
		"64:ff9b::10.1.2.3":    {false, false, true},
		"64:ff9b::8.8.8.8":     {true, true, true},
		"fe80::1%eth0":         {false, false, true},
		"2a00:1450:4001::1":    {true, true, true},
		"2002:7f00:1::":        {false, false, true},
		"2001:db8::1":          {false, false, true},
		"255.255.255.255":      {false, false, true},
		"ff02::1":              {false, false, true},
		"0.0.0.0":              {false, false, true},
		"2001:4860:4860::8888": {true, true, true},
	} {
		ip := netip.MustParseAddr(text)
		if got := [3]bool{none.Admits(ip), some.Admits(ip), all.Admits(ip)}; got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestNetworkMistakes(t *testing.T) {
	t.Parallel()
	const no = "a network such as 10.1.0.0/16 or an address"
	for text, want := range map[string]string{
		"":                   no,
		"10.1.0.0/":          no,
		"10.1.0.0/33":        no,
		"10.1/16":            no,
		"internal.example":   no,
		"fe80::1%eth0":       no,
		"::ffff:10.0.0.1":    no,
		"::ffff:10.0.0.0/96": no,
		"10.1.2.3/16":        "10.1.0.0/16, whose first address this is not",
		"8.8.8.0/24":         "a network that is not on the Internet, whose addresses are not held back",
		"2606:4700::1111":    "a network that is not on the Internet, whose addresses are not held back",
	} {
		if network, err := Network(text); err == nil || err.Error() != want {
			t.Errorf("%q: %v, %v, want %s", text, network, err, want)
		}
	}
}
