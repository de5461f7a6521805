package brokertest_test

import (
	"testing"
	"time"

	"github.com/warrenmq/warren/brokertest"
)

func TestClockNext(t *testing.T) {
	c := brokertest.NewClock()
	c.Freeze()
	if at, ok := c.Next(); ok {
		t.Errorf("a clock without timers has one at %v", at)
	}
	begun := c.Now()
	c.AfterFunc(time.Hour, func() {})
	stop := c.AfterFunc(time.Minute, func() {})
	if at, ok := c.Next(); !ok || at.Sub(begun) != time.Minute {
		t.Errorf("%v %v", at.Sub(begun), ok)
	}
	stop()
	if at, ok := c.Next(); !ok || at.Sub(begun) != time.Hour {
		t.Errorf("%v %v", at.Sub(begun), ok)
	}
	c.Advance(time.Hour)
	if _, ok := c.Next(); ok {
		t.Error("what was due is still to come")
	}
}
