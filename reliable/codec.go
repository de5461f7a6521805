package reliable

import (
	"encoding/json"
	"fmt"
	"mime"
)

// Codec turns values into bodies and back. It may be used by many goroutines at
// once.
type Codec interface {
	// ContentType is the MIME type of the bodies, which messages carry.
	ContentType() string
	Marshal(v any) ([]byte, error)
	// Unmarshal fills what v points to. An error means that the message can never
	// be read: it becomes a dead letter at once.
	Unmarshal(body []byte, v any) error
}

// JSON is the codec that is used unless Config names another one.
type JSON struct{}

// ContentType is application/json.
func (JSON) ContentType() string { return "application/json" }

// Marshal is json.Marshal.
func (JSON) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

// Unmarshal is json.Unmarshal.
func (JSON) Unmarshal(body []byte, v any) error { return json.Unmarshal(body, v) }

const (
	bytesType = "application/octet-stream"
	textType  = "text/plain; charset=utf-8"
)

// encode makes the body of v. Byte slices and strings stand for themselves.
func encode[T any](codec Codec, v T) (body []byte, contentType string, err error) {
	switch v := any(v).(type) {
	case []byte:
		return v, bytesType, nil
	case string:
		return []byte(v), textType, nil
	}
	body, err = codec.Marshal(v)
	if err != nil {
		return nil, "", fmt.Errorf("reliable: %T cannot be encoded as %s: %w", v, codec.ContentType(), err)
	}
	return body, codec.ContentType(), nil
}

// decode reads a body into v. A body of another type than the codec's is tried
// all the same, since many publishers name none or a wrong one.
func decode[T any](codec Codec, contentType string, body []byte, v *T) error {
	switch v := any(v).(type) {
	case *[]byte:
		*v = body
		return nil
	case *string:
		*v = string(body)
		return nil
	}
	if err := codec.Unmarshal(body, v); err != nil {
		return &DecodeError{Type: fmt.Sprintf("%T", *v), ContentType: mediaType(contentType), Err: err}
	}
	return nil
}

func mediaType(contentType string) string {
	if base, _, err := mime.ParseMediaType(contentType); err == nil {
		return base
	}
	return contentType
}

// DecodeError is a body that is not what the consumer's type asks for. The message
// becomes a dead letter at once.
type DecodeError struct {
	Type        string // the Go type
	ContentType string // of the message
	Err         error  // the codec's
}

func (e *DecodeError) Error() string {
	text := "the body cannot be read as " + e.Type
	if e.ContentType != "" {
		text += " (it is said to be " + e.ContentType + ")"
	}
	return text + ": " + e.Err.Error()
}

// Unwrap returns the codec's error.
func (e *DecodeError) Unwrap() error { return e.Err }
