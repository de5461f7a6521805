//go:build !unix

package loadgen

import "time"

// ownCPU is 0 where the system is not asked.
func ownCPU() time.Duration { return 0 }
