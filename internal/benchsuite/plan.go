package benchsuite

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// plan is what a suite has to do: each round of each row, unless it is recorded
// already.
type plan struct {
	rows []planned
	runs int // of one load on one broker, that are still to be done
	done int
	// What is left by the estimate, and how the estimate and the clock compared so far.
	left, estimated, spent time.Duration
}

// planned is a row with its rounds that are to be done, counted from 0.
type planned struct {
	Row
	rounds  int // in all
	missing []int
	stale   []string // files of records that would not belong to what is recorded now
}

// makePlan decides which rounds are to be done. With resume a round is done if
// all brokers have all its runs, without failures and of the same length, because
// brokers are compared by rounds; without, a row is recorded anew.
func (s *suite) makePlan(rows []Row) (*plan, error) {
	old, err := Load(s.Out)
	if err != nil && !errors.Is(err, ErrNoRecords) {
		return nil, err
	}
	p := &plan{}
	for _, row := range rows {
		n := planned{Row: row, rounds: s.Rounds}
		if row.once {
			n.rounds = 1
		}
		var keep []Record
		for _, r := range old {
			if r.Row != row.Name {
				continue
			}
			if !s.Resume || !s.belongs(&r) || r.Round > n.rounds {
				n.stale = append(n.stale, r.path)
				continue
			}
			keep = append(keep, r)
		}
		for round := range n.rounds {
			if !s.isComplete(&row, round+1, keep) {
				n.missing = append(n.missing, round)
			}
		}
		p.runs += len(n.missing) * len(s.Brokers) * len(row.Loads)
		p.left += time.Duration(len(n.missing)*len(s.Brokers)) * s.estimate(&row)
		p.rows = append(p.rows, n)
	}
	return p, nil
}

// clear removes what would not belong to the row.
func (n *planned) clear() error {
	for _, path := range n.stale {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// belongs says whether a record is one of what is measured now.
func (s *suite) belongs(r *Record) bool {
	return r.Error == "" && r.Length == s.Duration && r.Scale == s.Scale && r.Order >= 1 && r.Order <= len(s.names) && s.names[r.Order-1] == r.Broker
}

// isComplete says whether a round needs nothing more.
func (s *suite) isComplete(row *Row, round int, records []Record) bool {
	for order := range s.Brokers {
		for _, v := range row.Loads {
			if !slices.ContainsFunc(records, func(r Record) bool {
				return r.Round == round && r.Order == order+1 && r.Variant == v.name
			}) {
				return false
			}
		}
	}
	return true
}

// What a run takes besides its duration, about.
const (
	overheadTime    = 700 * time.Millisecond // until the broker is calm, declaring, deleting
	prefillRate     = 50_000                 // messages per second
	idleConnectRate = 2000
	diskShare       = 4 // of the duration: one fourth
)

// estimate is how long one turn of a row takes, about.
func (s *suite) estimate(row *Row) (sum time.Duration) {
	for i := range row.Loads {
		sum += s.estimateRun(row, &row.Loads[i])
	}
	return sum
}

// estimateRun is estimate for one of the loads.
func (s *suite) estimateRun(row *Row, v *variant) time.Duration {
	p, t := s.runParams(), overheadTime
	switch {
	case v.load != nil:
		c := v.load(p)
		t += c.Warmup + c.Duration + c.Settle + time.Duration(int64(c.Prefill)+c.PublishCount)*time.Second/prefillRate
	case v.churn != nil:
		t += s.Duration
	default:
		t += time.Duration(p.count(v.idle))*time.Second/idleConnectRate + p.settle()
	}
	if row.disk {
		t += s.Duration / diskShare
	}
	return t
}

// took enters a run that is over.
func (p *plan) took(estimate, real time.Duration) {
	p.done++
	p.left -= estimate
	p.estimated += estimate
	p.spent += real
}

// remaining is the estimate for what is left, corrected by what it was worth so far.
func (p *plan) remaining() time.Duration {
	if p.estimated <= 0 {
		return p.left
	}
	return time.Duration(float64(p.left) * float64(p.spent) / float64(p.estimated))
}

// announce says what is going to happen.
func (s *suite) announce(p *plan) {
	if s.Progress == nil {
		return
	}
	todo, already := 0, 0
	for i := range p.rows {
		if len(p.rows[i].missing) > 0 {
			todo++
		}
		already += p.rows[i].rounds - len(p.rows[i].missing)
	}
	text := fmt.Sprintf("%s of %s, %s: about %s", countOf(p.runs, "run"), s.Duration, countOf(todo, "row"), roughly(p.left))
	if already > 0 {
		text += fmt.Sprintf(" (%s already in %s)", countOf(already, "round"), s.Out)
	}
	s.Progress(text)
}

func countOf(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// roughly is a time for people: 40 s, 7 min, 1 h 5 min.
func roughly(d time.Duration) string {
	switch minutes := int(d.Round(time.Minute) / time.Minute); {
	case d < 100*time.Second:
		return fmt.Sprintf("%d s", int(d.Round(time.Second)/time.Second))
	case minutes < 60:
		return fmt.Sprintf("%d min", minutes)
	default:
		return fmt.Sprintf("%d h %d min", minutes/60, minutes%60)
	}
}
