package mgmt

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/warrenmq/warren/internal/wire"
)

// propertiesRow are the properties that a message has, and no others.
func propertiesRow(p *wire.Properties) object {
	o := object{}
	for _, x := range []struct {
		flag  uint16
		name  string
		value any
	}{
		{wire.FlagContentType, "content_type", p.ContentType}, {wire.FlagContentEncoding, "content_encoding", p.ContentEncoding},
		{wire.FlagHeaders, "headers", table(p.Headers)}, {wire.FlagDeliveryMode, "delivery_mode", p.DeliveryMode},
		{wire.FlagPriority, "priority", p.Priority}, {wire.FlagCorrelationID, "correlation_id", p.CorrelationID},
		{wire.FlagReplyTo, "reply_to", p.ReplyTo}, {wire.FlagExpiration, "expiration", p.Expiration},
		{wire.FlagMessageID, "message_id", p.MessageID}, {wire.FlagTimestamp, "timestamp", p.Timestamp},
		{wire.FlagType, "type", p.Type}, {wire.FlagUserID, "user_id", p.UserID}, {wire.FlagAppID, "app_id", p.AppID},
		{wire.FlagClusterID, "cluster_id", p.ClusterID},
	} {
		if p.Flags&x.flag != 0 {
			o = o.with(x.name, x.value)
		}
	}
	return o
}

// propertiesOf reads properties. Names that are none are ignored, as in RabbitMQ.
func propertiesOf(v any) (p wire.Properties, err error) {
	given, ok := v.(map[string]any)
	if !ok {
		if list, isList := v.([]any); isList && len(list) == 0 {
			return p, nil // what PHP makes of an empty object
		}
		return p, badRequest("properties has to be an object")
	}
	texts := map[string]struct {
		flag  uint16
		field *string
	}{
		"content_type": {wire.FlagContentType, &p.ContentType}, "content_encoding": {wire.FlagContentEncoding, &p.ContentEncoding},
		"correlation_id": {wire.FlagCorrelationID, &p.CorrelationID}, "reply_to": {wire.FlagReplyTo, &p.ReplyTo},
		"expiration": {wire.FlagExpiration, &p.Expiration}, "message_id": {wire.FlagMessageID, &p.MessageID},
		"type": {wire.FlagType, &p.Type}, "user_id": {wire.FlagUserID, &p.UserID}, "app_id": {wire.FlagAppID, &p.AppID},
		"cluster_id": {wire.FlagClusterID, &p.ClusterID},
	}
	for name, value := range given {
		if t, isText := texts[name]; isText {
			s, isString := value.(string)
			if !isString || len(s) > math.MaxUint8 {
				return p, badRequest(fmt.Sprintf("the property %s has to be a string of at most 255 bytes", name))
			}
			*t.field = s
			p.Flags |= t.flag
			continue
		}
		if err := setProperty(&p, name, value); err != nil {
			return p, err
		}
	}
	return p, nil
}

// setProperty sets one of the properties that are no strings.
func setProperty(p *wire.Properties, name string, value any) (err error) {
	var flag uint16
	var n int
	switch name {
	case "headers":
		flag = wire.FlagHeaders
		fields, ok := value.(map[string]any)
		if !ok {
			return badRequest("headers has to be an object")
		}
		p.Headers, err = tableOf(fields, 1)
	case "delivery_mode":
		flag = wire.FlagDeliveryMode
		n, err = smallInteger(name, value)
		p.DeliveryMode = uint8(n)
	case "priority":
		flag = wire.FlagPriority
		n, err = smallInteger(name, value)
		p.Priority = uint8(n)
	case "timestamp":
		flag = wire.FlagTimestamp
		n, err = integerOf(value)
		p.Timestamp = wire.Timestamp(n)
	}
	p.Flags |= flag
	return err
}

func smallInteger(name string, value any) (int, error) {
	n, err := integerOf(value)
	if err == nil && n > math.MaxUint8 {
		err = badRequest(fmt.Sprintf("the property %s has to be from 0 to 255", name))
	}
	return n, err
}

// tableOf makes a field table of a JSON object. JSON has no order, so the keys are
// sorted.
func tableOf(fields map[string]any, depth int) (wire.Table, error) {
	if depth > wire.MaxTableDepth {
		return nil, badRequest(fmt.Sprintf("values are nested deeper than %d", wire.MaxTableDepth))
	}
	var t wire.Table
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if len(key) > math.MaxUint8 {
			return nil, badRequest("a key is longer than 255 bytes")
		}
		v, err := fieldOf(fields[key], depth)
		if err != nil {
			return nil, err
		}
		t = append(t, wire.Field{Key: key, Value: v})
	}
	return t, nil
}

// fieldOf makes a field value of a JSON value, with the types that RabbitMQ takes.
func fieldOf(v any, depth int) (any, error) {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n, nil
		}
		f, err := v.Float64()
		if err != nil {
			return nil, badRequest("the number " + v.String() + " is too large")
		}
		return f, nil
	case map[string]any:
		return tableOf(v, depth+1)
	case []any:
		if depth >= wire.MaxTableDepth {
			return nil, badRequest(fmt.Sprintf("values are nested deeper than %d", wire.MaxTableDepth))
		}
		a := make(wire.Array, len(v))
		for i := range v {
			x, err := fieldOf(v[i], depth+1)
			if err != nil {
				return nil, err
			}
			a[i] = x
		}
		return a, nil
	}
	return v, nil // string, bool and null are what they are
}
