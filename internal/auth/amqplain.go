package auth

import "github.com/warrenmq/warren/internal/wire"

// parseAMQPlain reads a field table without its length prefix that has the keys
// LOGIN and PASSWORD, in any order and among others. As in RabbitMQ one of the
// two must be a string; a value of any other type then simply does not match.
func parseAMQPlain(response []byte) (name, password string, f *Failure) {
	table, err := wire.ParseTableBody(response)
	if err != nil {
		return "", "", malformed("AMQPLAIN response of %d bytes is not a field table", len(response))
	}
	login, hasLogin := table.Get("LOGIN")
	secret, hasPassword := table.Get("PASSWORD")
	if !hasLogin || !hasPassword {
		return "", "", malformed("AMQPLAIN auth info is missing LOGIN or PASSWORD field")
	}
	name, nameOK := text(login)
	password, passwordOK := text(secret)
	if !nameOK && !passwordOK {
		return "", "", malformed("AMQPLAIN auth info uses unsupported type for LOGIN or PASSWORD field")
	}
	return name, password, nil
}

// text is the value of a long string or byte array; some clients send the latter.
func text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case []byte:
		return string(v), true
	}
	return "", false
}
