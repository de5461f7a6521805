package claimtest

import (
	"context"

	"github.com/warrenmq/warren/reliable"
)

// Scan lists the dead letters that match, up to the first error.
func Scan(d *reliable.DeadLetters, f reliable.Filter) (list []reliable.DeadLetter, err error) {
	for letter, err := range d.Scan(context.Background(), f) {
		if err != nil {
			return list, err
		}
		list = append(list, letter)
	}
	return list, nil
}
