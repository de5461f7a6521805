//go:build !unix

package loadgen

import "time"

// OwnCPU is 0 where the system is not asked.
func OwnCPU() time.Duration { return 0 }
