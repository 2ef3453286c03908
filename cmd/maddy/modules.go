package main

import (
	// What this build has besides maddy's own modules. More of them are built in by more lines like this.
	_ "tlscontrol/module"
)
