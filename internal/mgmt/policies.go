package mgmt

// This broker has no policies, parameters, limits per virtual host or user, and
// no permissions per topic: their lists are there, and empty.

func (q *request) emptyList() error { return q.reply([]object{}) }

func (q *request) emptyVHostList() error {
	if _, err := q.vhost(0); err != nil {
		return err
	}
	return q.reply([]object{})
}

func (q *request) nothingThere() error {
	if _, err := q.vhost(0); err != nil {
		return err
	}
	return errNotFound()
}

func (q *request) globalParameters() error {
	return q.reply([]object{{{"name", "cluster_tags"}, {"value", []any{}}}})
}
